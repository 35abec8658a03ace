"""A device before and after a load: what the load took, or why that cannot be said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from qwenops.machine.types import Device, Process
from qwenops.ollama.usage import STILL_BYTES, Snapshot, settled, usage_of_load
from qwenops.runtime.types import Runtime
from qwenops.units import GIB, MIB

RUNTIME = Runtime(place="local", url="http://127.0.0.1:9")
XORG = Process(7, "Xorg", 300 * MIB)
GAME = Process(8, "game", 500 * MIB)
RUNNER = Process(9, "llama-server", 4 * GIB)


def card(used: int, *processes: Process) -> Device:
    return Device("CUDA0", "cuda", "A card", 12 * GIB, 12 * GIB - used, processes=processes)


def seen(device: Device, *moving: str) -> tuple[Snapshot, frozenset[str]]:
    return {device.name: device}, frozenset(moving)


BEFORE = card(GIB, XORG)
AFTER = card(5 * GIB, XORG, RUNNER)


def test_what_a_load_took_is_the_difference() -> None:
    (usage,) = usage_of_load(seen(BEFORE), seen(AFTER))
    assert (usage.gained_bytes, usage.disturbed) == (4 * GIB, "")
    entry = usage.as_data(3 * GIB, 10 * GIB)
    assert entry["used_after_bytes"] - entry["used_before_bytes"] - entry["buffers_bytes"] == GIB
    assert (entry["free_before_bytes"], entry["runtime_free_bytes"]) == (11 * GIB, 10 * GIB)


@pytest.mark.parametrize(
    ("after", "why"),
    [
        pytest.param(card(5 * GIB, XORG, GAME, RUNNER), "game (8) came", id="one came"),
        pytest.param(card(5 * GIB, RUNNER), "Xorg (7) left", id="one left"),
        pytest.param(
            card(5 * GIB, replace(XORG, used_bytes=400 * MIB), RUNNER),
            "Xorg (7) went from 300 MiB to 400 MiB",
            id="one grew",
        ),
        pytest.param(card(5 * GIB, replace(XORG, used_bytes=200 * MIB), RUNNER), "Xorg (7) went", id="one shrank"),
        pytest.param(
            card(5 * GIB, XORG, Process(9, "out of sight", None), Process(10, "out of sight", None)),
            "out of sight (9) came",
            id="two that cannot be told",
        ),
    ],
)
def test_another_process_that_moved_is_named(after: Device, why: str) -> None:
    (usage,) = usage_of_load(seen(BEFORE), seen(after))
    assert usage.disturbed.startswith(why)


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(card(5 * GIB, replace(XORG, used_bytes=300 * MIB + STILL_BYTES), RUNNER), id="a tremble"),
        pytest.param(card(5 * GIB, replace(XORG, used_bytes=None), RUNNER), id="the driver will not say"),
        pytest.param(card(5 * GIB, XORG, Process(9, "out of sight", None)), id="a server in a container"),
        pytest.param(card(5 * GIB, XORG, Process(9, "ollama_llama_server", GIB)), id="an older runner"),
    ],
)
def test_what_is_no_disturbance(after: Device) -> None:
    (usage,) = usage_of_load(seen(BEFORE), seen(after))
    assert usage.disturbed == ""


def test_a_child_of_the_server_is_the_load_whatever_its_name() -> None:
    import subprocess
    import sys

    import psutil

    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        after = card(5 * GIB, XORG, Process(child.pid, "python", 4 * GIB))
        assert usage_of_load(seen(BEFORE), seen(after), server=psutil.Process().pid)[0].disturbed == ""
        assert usage_of_load(seen(BEFORE), seen(after))[0].disturbed != ""
    finally:
        child.communicate(b"\n")


def test_where_no_processes_are_told_stillness_decides() -> None:
    still, later = card(GIB), card(5 * GIB)
    assert usage_of_load(seen(still), seen(later))[0].disturbed == ""
    assert "before the load" in usage_of_load(seen(still, "CUDA0"), seen(later))[0].disturbed
    assert "after the load" in usage_of_load(seen(still), seen(later, "CUDA0"))[0].disturbed
    evicted = usage_of_load(seen(still), seen(later), evicted=("big:latest",))
    assert evicted[0].disturbed == "Ollama took big:latest out of memory meanwhile"


def test_a_device_that_came_later_is_not_compared() -> None:
    assert usage_of_load(({}, frozenset()), seen(AFTER)) == ()


def looks(*used: int) -> Iterator[Snapshot]:
    for amount in used:
        yield {"CUDA0": card(amount)}
    while True:
        yield {"CUDA0": card(used[-1])}


def test_memory_that_is_given_back_late_is_waited_for() -> None:
    series = looks(5 * GIB, 3 * GIB, GIB)
    snapshot, moving = settled(RUNTIME, look=lambda _: next(series))
    assert (snapshot["CUDA0"].used_bytes, moving) == (GIB, frozenset())


def test_a_device_that_never_rests_is_said_to_move() -> None:
    rising = (({"CUDA0": card(n * 10 * MIB)}) for n in range(10**6))
    _, moving = settled(RUNTIME, look=lambda _: next(rising))
    assert moving == {"CUDA0"}


def test_a_machine_without_counted_devices_is_not_waited_for() -> None:
    assert settled(RUNTIME, look=lambda _: {}) == ({}, frozenset())
    assert settled(replace(RUNTIME, place="remote")) == ({}, frozenset())
