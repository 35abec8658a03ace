"""The doctor says of each card whether its overhead is learned, was learned under something else, or is the default."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from qwenops import history
from qwenops.machine.detect import detect
from qwenops.machine.types import Device
from qwenops.memory.measured import runtime_key
from qwenops.runtime.types import Runtime
from qwenops.setup.doctor_calibration import calibration
from qwenops.setup.findings import Finding, Patient
from qwenops.units import GIB, MIB
from tests.memory.test_overhead import entry

CARD = Device("CUDA0", "cuda", "NVIDIA GeForce RTX 3060", 12 * GIB, 11 * GIB, driver="580.126", uuid="GPU-1")
LISTED = replace(CARD, source="runtime", driver=None, uuid=None)
RUNTIME = Runtime(
    place="local", url="http://127.0.0.1:9", version="0.32.14", llama_server_build="b10434", devices=(LISTED,)
)
OLDER = replace(RUNTIME, version="0.31.0", llama_server_build="b10000")


def loads(count: int, runtime: Runtime = RUNTIME, **changes: Any) -> None:
    with history.open() as kept:
        for _ in range(count):
            usage = {"devices": [], "layers": None, "usage": [entry(431 * MIB, **changes)]}
            kept.record_load("m", "s", runtime_key(runtime), "a card", {}, usage, True)


def findings(device: Device = CARD, runtime: Runtime = RUNTIME) -> list[Finding]:
    return list(calibration(Patient(replace(detect("none"), devices=(device,), hypothetical=False), runtime)))


def test_nothing_learned_is_no_fault_and_the_command_is_named() -> None:
    (found,) = findings()
    assert (found.level, found.code) == ("ok", "calibration")
    assert "not measured, the default of 456 MiB is used (qwenops calibrate)" in found.title


def test_too_few_loads_are_counted() -> None:
    loads(2)
    (found,) = findings()
    assert found.level == "ok"
    assert "2 of 3 loads seen" in found.title


def test_what_is_learned_is_said() -> None:
    loads(4)
    (found,) = findings()
    assert (found.level, found.title) == (
        "ok",
        "NVIDIA GeForce RTX 3060: memory beyond the buffers 431 MiB, learned from 4 loads",
    )


@pytest.mark.parametrize(
    ("device", "runtime", "what"),
    [
        pytest.param(replace(CARD, driver="590.10"), RUNTIME, "another driver;", id="driver"),
        pytest.param(CARD, OLDER, "another runtime;", id="runtime"),
        pytest.param(replace(CARD, driver="590.10"), OLDER, "another driver and runtime;", id="both"),
    ],
)
def test_a_changed_driver_or_runtime_makes_it_stale(device: Device, runtime: Runtime, what: str) -> None:
    loads(3)
    (found,) = findings(device, runtime)
    assert (found.level, found.code) == ("advice", "calibration-stale")
    assert what in found.title
    assert found.observed == f"driver 580.126, {runtime_key(RUNTIME)}"
    assert found.expected == f"driver {device.driver}, {runtime_key(runtime)}"
    assert found.do == ("qwenops calibrate",)


def test_loads_under_the_present_driver_end_the_staleness() -> None:
    loads(3, OLDER)
    assert findings()[0].code == "calibration-stale"
    loads(3)
    assert findings()[0].level == "ok"


@pytest.mark.parametrize(
    "device",
    [
        pytest.param(replace(LISTED, kind="metal", name="MTL0", description="Apple M3"), id="metal"),
        pytest.param(replace(LISTED, kind="vulkan", name="Vulkan0", description="llvmpipe (LLVM 15)"), id="the CPU"),
    ],
)
def test_a_device_without_a_context_of_its_own_is_not_spoken_of(device: Device) -> None:
    assert findings(device, replace(RUNTIME, devices=(device,))) == []


def test_another_machines_server_says_nothing_of_this_ones_cards() -> None:
    assert findings(runtime=replace(RUNTIME, place="remote")) == []
