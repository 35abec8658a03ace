"""Whether what was learned of a device's overhead is still of its present driver and runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from qwenops import history
from qwenops.machine.types import Device
from qwenops.memory.learned import is_of_runtime, usage_of
from qwenops.memory.measured import runtime_key
from qwenops.memory.overhead import FEWEST_LOADS, UsageSeen, is_of, learn_overheads, overhead_bytes
from qwenops.plan.ground import ground
from qwenops.runtime.types import Runtime
from qwenops.setup.findings import Check, Finding, Patient
from qwenops.units import human


def calibration(patient: Patient) -> Iterator[Finding]:
    """For each device with a context of its own: learned, learned under another driver or runtime, or not at all."""
    runtime = patient.runtime
    if runtime.place == "remote":
        return
    with history.open() as kept:
        seen = usage_of(kept.loads())
    for device in ground(patient.machine, runtime).devices:
        if overhead_bytes(replace(device, source="nvml")):
            yield _of_device(device, [one for one in seen if is_of(one, device)], runtime)


def _of_device(device: Device, seen: Sequence[UsageSeen], runtime: Runtime) -> Finding:
    name = f"{device.description or device.name}: memory beyond the buffers"
    fresh = [one for one in seen if one.driver == device.driver and is_of_runtime(one.build, runtime)]
    if len(fresh) >= FEWEST_LOADS:
        (learned,) = learn_overheads(fresh)[:1]
        spread = learned.whole
        return Finding("ok", "calibration", f"{name} {human(spread.median_bytes)}, learned from {spread.loads} loads")
    if seen and not fresh:
        last = seen[-1]
        return Finding(
            "advice",
            "calibration-stale",
            f"{name} was learned under another {_what_changed(last, device, runtime)}; the default is used again",
            expected=f"{_driver(device.driver)}, {runtime_key(runtime)}",
            observed=f"{_driver(last.driver)}, {last.build}",
            evidence="the newest load in the history",
            do=("qwenops calibrate",),
        )
    stated = human(overhead_bytes(replace(device, source="nvml")))
    so_far = f"{len(fresh)} of {FEWEST_LOADS} loads seen" if fresh else "not measured"
    return Finding("ok", "calibration", f"{name}: {so_far}, the default of {stated} is used (qwenops calibrate)")


def _what_changed(last: UsageSeen, device: Device, runtime: Runtime) -> str:
    changed = [
        word
        for word, same in (
            ("driver", last.driver == device.driver),
            ("runtime", is_of_runtime(last.build, runtime)),
        )
        if not same
    ]
    return " and ".join(changed)


def _driver(version: str | None) -> str:
    return f"driver {version}" if version else "a driver without a version"


CHECKS: tuple[Check, ...] = (calibration,)
