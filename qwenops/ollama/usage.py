"""What a load takes from each device by its driver's own count, and whether anyone else moved meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from qwenops.machine.twins import twin_of
from qwenops.machine.types import Device
from qwenops.runtime.process import family_of
from qwenops.runtime.types import Runtime
from qwenops.units import MIB, human

# A desktop's figures tremble by less; what moves by more would be taken for the load's own.
STILL_BYTES = 4 * MIB
_GAP_S = 0.15
# Drivers give memory back late: so long a device that still moves is waited for.
_SETTLE_S = 2.0
_SERVERS = ("llama-server", "ollama")
_HIDDEN = "out of sight"

Snapshot = Mapping[str, Device]
"""The driver's view of each device by the runtime's name of it."""


@dataclass(frozen=True)
class Usage:
    """One device before and after a load, in bytes; `disturbed` says why the difference is not this load's alone."""

    device: Device
    before_bytes: int
    after_bytes: int
    free_before_bytes: int
    disturbed: str = ""

    @property
    def gained_bytes(self) -> int:
        """By how much more is in use."""
        return self.after_bytes - self.before_bytes

    def as_data(self, buffers_bytes: int, runtime_free_bytes: int | None) -> dict[str, Any]:
        """Plain JSON values for the history; `runtime_free_bytes` is what the runtime's own log said was free."""
        return {
            "name": self.device.name,
            "kind": self.device.kind,
            "uuid": self.device.uuid,
            "description": self.device.description,
            "driver": self.device.driver,
            "used_before_bytes": self.before_bytes,
            "used_after_bytes": self.after_bytes,
            "buffers_bytes": buffers_bytes,
            "free_before_bytes": self.free_before_bytes,
            "runtime_free_bytes": runtime_free_bytes,
            "disturbed": self.disturbed,
        }


def snapshot(runtime: Runtime) -> Snapshot:
    """The devices whose driver counts their memory; empty where the server is on another machine."""
    if runtime.place == "remote":
        return {}
    from qwenops.machine.detect import detect

    real = [d for d in detect().devices if d.source in ("nvml", "sysfs") and not d.unified]
    return {(named := _as_the_runtime_has_it(d, runtime)).name: named for d in real}


def settled(runtime: Runtime, *, look: Callable[[Runtime], Snapshot] = snapshot) -> tuple[Snapshot, frozenset[str]]:
    """A snapshot that was the same twice in a row, and the names of the devices that went on moving."""
    last = look(runtime)
    if not last:
        return last, frozenset()
    deadline = time.monotonic() + _SETTLE_S
    while True:
        time.sleep(_GAP_S)
        now = look(runtime)
        moving = frozenset(
            name for name, d in now.items() if name not in last or abs(d.used_bytes - last[name].used_bytes) > MIB
        )
        if not moving or time.monotonic() > deadline:
            return now, moving
        last = now


def usage_of_load(
    before: tuple[Snapshot, frozenset[str]],
    after: tuple[Snapshot, frozenset[str]],
    *,
    evicted: tuple[str, ...] = (),
    server: int | None = None,
) -> tuple[Usage, ...]:
    """Every device that was seen before and after; `evicted` models left meanwhile, `server` is Ollama's process."""
    (then, moved_then), (now, moved_now) = before, after
    ours = family_of(server)
    found = []
    for name, device in now.items():
        if name not in then:
            continue
        disturbed = (
            f"Ollama took {', '.join(evicted)} out of memory meanwhile"
            if evicted
            else "its use was moving before the load"
            if name in moved_then
            else "its use went on moving after the load"
            if name in moved_now
            else _others(then[name], device, ours)
        )
        found.append(Usage(device, then[name].used_bytes, device.used_bytes, then[name].free_bytes, disturbed))
    return tuple(found)


def _others(then: Device, now: Device, ours: frozenset[int]) -> str:
    """Who else came, went or changed on a device during a load, in a sentence; empty where nobody did."""
    before = {p.pid: p for p in then.processes}
    after = {p.pid: p for p in now.processes}
    for pid, process in before.items():
        if pid not in after:
            return f"{process.name} ({pid}) left during the load"
        was, is_now = process.used_bytes, after[pid].used_bytes
        if was is not None and is_now is not None and abs(is_now - was) > STILL_BYTES:
            return f"{process.name} ({pid}) went from {human(was)} to {human(is_now)} during the load"
    new = [p for pid, p in after.items() if pid not in before]
    foreign = [p for p in new if p.pid not in ours and not p.name.startswith(_SERVERS)]
    # The runner of a server in a container has no name that we can see: a single stranger is taken for it.
    if len(new) == len(foreign) == 1 and foreign[0].name == _HIDDEN:
        return ""
    return f"{foreign[0].name} ({foreign[0].pid}) came during the load" if foreign else ""


def _as_the_runtime_has_it(device: Device, runtime: Runtime) -> Device:
    """A device that the driver counted, under the runtime's name and kind where the runtime has it."""
    twin = twin_of(device, runtime.devices)
    return device if twin is None else replace(device, name=twin.name, kind=twin.kind)
