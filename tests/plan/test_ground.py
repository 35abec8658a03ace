"""What a plan may count on: memory that Ollama's own idle models hold is free, on the device where they hold it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.machine.types import Device, Host, Machine, Process
from qwenops.plan.ground import Ground, ground
from qwenops.runtime.types import LoadedModel, Runtime
from qwenops.units import GIB, MIB

HOST = Host(64 * GIB, 60 * GIB, 8, 16, "linux", "x86_64")
XORG = Process(1, "Xorg", 300 * MIB)


def runner(used_bytes: int | None, name: str = "llama-server") -> Process:
    return Process(2, name, used_bytes)


def card(number: int, used_bytes: int, *processes: Process) -> Device:
    free = 24 * GIB - used_bytes
    return Device(f"CUDA{number}", "cuda", "NVIDIA RTX", 24 * GIB, free, index=number, processes=processes)


def stand_on(devices: Sequence[Device], *loaded_bytes: int) -> Ground:
    models = tuple(LoadedModel(f"m{i}:latest", size, size, 4096, "") for i, size in enumerate(loaded_bytes))
    url = "http://127.0.0.1:11434"
    runtime = Runtime(place="local", url=url, version="0.32.14", devices=tuple(devices), loaded=models)
    return ground(Machine(tuple(devices), HOST), runtime)


@pytest.mark.parametrize(
    ("devices", "loaded", "freed"),
    [
        pytest.param([card(0, 0)], (), [0], id="nothing is loaded"),
        pytest.param([card(0, 6 * GIB)], (5 * GIB,), [5 * GIB], id="one card"),
        pytest.param([card(0, 4 * GIB)], (3 * GIB, 3 * GIB), [4 * GIB], id="never more than is used"),
        pytest.param([card(0, 6 * GIB), card(1, 0)], (5 * GIB,), [5 * GIB, 0], id="the other card is empty"),
        pytest.param(
            [card(0, GIB), card(1, 6 * GIB)], (5 * GIB,), [0, 4 * GIB], id="at least what the other cannot hold"
        ),
        pytest.param([card(0, 6 * GIB), card(1, 6 * GIB)], (5 * GIB,), [0, 0], id="it may lie on either"),
        pytest.param(
            [card(0, 6 * GIB, XORG, runner(4 * GIB)), card(1, 6 * GIB, runner(2 * GIB))],
            (3 * GIB,),
            [2 * GIB, GIB],
            id="as the driver says the runner holds it",
        ),
        pytest.param(
            [card(0, 6 * GIB, runner(None)), card(1, 0, runner(None))],
            (5 * GIB,),
            [5 * GIB, 0],
            id="the driver will not say",
        ),
        pytest.param(
            [card(0, 6 * GIB, runner(5 * GIB, "python")), card(1, 6 * GIB, runner(6 * GIB))],
            (5 * GIB,),
            [0, 5 * GIB],
            id="what others hold is not theirs",
        ),
    ],
)
def test_what_idle_models_hold_counts_as_free(devices: list[Device], loaded: tuple[int, ...], freed: list[int]) -> None:
    stands = stand_on(devices, *loaded)
    assert [now.free_bytes - was.free_bytes for now, was in zip(stands.devices, devices, strict=True)] == freed
    assert stands.evictable_bytes == sum(freed)
    assert any("count as free" in note for note in stands.notes) == any(freed)


def test_what_lies_nobody_knows_where_is_said_to_count_as_taken() -> None:
    assert "5.00 GiB more of m0:latest count as taken" in " ".join(
        stand_on([card(0, 6 * GIB), card(1, 6 * GIB)], 5 * GIB).notes
    )


_CARDS = st.lists(
    st.tuples(st.integers(0, 24 * GIB), st.one_of(st.none(), st.integers(0, 24 * GIB))), min_size=1, max_size=4
)


@given(_CARDS, st.lists(st.integers(0, 30 * GIB), max_size=3))
def test_no_more_is_freed_than_is_used_nor_than_the_server_counts(
    cards: list[tuple[int, int | None]], loaded: list[int]
) -> None:
    devices = [card(i, used, runner(by)) for i, (used, by) in enumerate(cards)]
    stands = stand_on(devices, *loaded)
    assert all(
        was.free_bytes <= now.free_bytes <= was.total_bytes for now, was in zip(stands.devices, devices, strict=True)
    )
    assert stands.evictable_bytes <= sum(loaded)
