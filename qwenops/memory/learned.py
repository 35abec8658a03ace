"""What the history teaches about loads of this runtime, and what that changes in an answer of any rung."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qwenops.machine.types import Device
from qwenops.memory.learned_band import Experience, LoadError, errors_in, experience_of, learned_band
from qwenops.memory.overhead import LearnedOverhead, Overhead, UsageSeen, learn_overheads, overhead_of, usage_seen
from qwenops.memory.types import Band, DeviceNeed, Need

if TYPE_CHECKING:
    from qwenops.history import History, LoadRow
    from qwenops.runtime.types import Runtime

NEWEST_LOADS = 1000
"""Reading one takes a fifth of a millisecond, and every command that answers with a need does it."""
_BUILD = re.compile(r"ollama (.+) llama-server (.+)")


@dataclass(frozen=True)
class Learned:
    """Overheads by device, errors of past predictions and what they come to, all of one runtime build."""

    overheads: tuple[LearnedOverhead, ...] = ()
    errors: tuple[LoadError, ...] = ()
    experience: tuple[Experience, ...] = ()


NOTHING = Learned()


def learn(history: History | None, runtime: Runtime | None) -> Learned:
    """What the loads of this runtime's build teach; nothing where there is no runtime whose loads could count."""
    if history is None or runtime is None:
        return NOTHING
    from qwenops.memory.measured import runtime_key

    whole = runtime.version is not None and runtime.llama_server_build is not None
    rows = history.loads(runtime_build=runtime_key(runtime) if whole else None, newest=NEWEST_LOADS)
    return learn_from([row for row in rows if is_of_runtime(row.runtime_build, runtime)])


def learn_from(rows: Sequence[LoadRow]) -> Learned:
    """The same from rows in order of time; pure."""
    errors = tuple(error for row in rows for error in errors_in(row))
    return Learned(learn_overheads(usage_of(rows)), errors, experience_of(errors))


def usage_of(rows: Iterable[LoadRow]) -> tuple[UsageSeen, ...]:
    """The undisturbed figures of rows, whatever runtime they are of, in order of time."""
    return tuple(
        seen for row in rows if row.measured for seen in usage_seen(row.measured.get("usage") or (), row.runtime_build)
    )


def is_of_runtime(build: str, runtime: Runtime) -> bool:
    """Whether a row's build is this runtime's. What was not asked of the runtime now is not compared.

    Ollama pins its llama-server: where one of the two is not known (the server is down, its devices were not asked
    for) the other one says enough.
    """
    found = _BUILD.fullmatch(build)
    if found is None:
        return False
    pairs = ((found[1], runtime.version), (found[2], runtime.llama_server_build))
    known = [(there, now) for there, now in pairs if now is not None]
    return bool(known) and all(there == now for there, now in known)


def settled(answer: Need, architecture: str, devices: Sequence[Device], learned: Learned) -> Need:
    """An answer of any rung with the overhead of each device, and with its band after the history's errors.

    A load that was measured keeps the overhead that was measured with it, unless what is free was read by the runtime
    and so holds the context already.
    """
    answer = replace(answer, band=learned_band(answer, architecture, learned.experience))
    by_name = {device.name: device for device in devices}
    needs: list[DeviceNeed] = []
    low, high = answer.band.low, answer.band.high
    said: list[str] = []
    for need in answer.devices:
        over = _overhead(answer, need, by_name.get(need.name), learned)
        low += over.low_bytes - need.overhead_bytes
        high += over.high_bytes - need.overhead_bytes
        said.append(over.source)
        needs.append(replace(need, overhead_bytes=over.size_bytes))
    source = " and ".join(sorted(set(said))) or "default"
    return replace(
        answer, devices=tuple(needs), band=Band(max(0, low), high), sources={**answer.sources, "overhead": source}
    )


def _overhead(answer: Need, need: DeviceNeed, device: Device | None, learned: Learned) -> Overhead:
    if device is None:
        return Overhead(need.overhead_bytes, need.overhead_bytes, need.overhead_bytes, "default")
    measured = need.overhead_bytes if answer.rung == "measured" and device.source != "runtime" else 0
    if measured:
        return Overhead(measured, measured, measured, "measured")
    return overhead_of(device, learned.overheads)
