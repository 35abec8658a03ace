"""What a device holds beyond the buffers: a stated default until enough loads have shown it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.machine.types import Device
from qwenops.memory.overhead import (
    FEWEST_LOADS,
    LearnedOverhead,
    UsageSeen,
    learn_overheads,
    overhead_of,
    usage_seen,
)
from qwenops.units import GIB, MIB

BUILD = "ollama 0.32.14 llama-server b10434"
CARD = Device("CUDA0", "cuda", "NVIDIA GeForce RTX 3060", 12 * GIB, 11 * GIB, driver="580.126", uuid="GPU-1")
READ_BY_RUNTIME = replace(CARD, source="runtime")


def entry(over: int = 430 * MIB, **changes: Any) -> dict[str, Any]:
    """A load of 3 GiB of buffers on a card where 600 MiB were in use; the context is 300 MiB of the overhead."""
    return {
        "name": "CUDA0",
        "kind": "cuda",
        "uuid": "GPU-1",
        "description": "NVIDIA GeForce RTX 3060",
        "driver": "580.126",
        "used_before_bytes": 600 * MIB,
        "used_after_bytes": 600 * MIB + 3 * GIB + over,
        "buffers_bytes": 3 * GIB,
        "free_before_bytes": 11 * GIB,
        "runtime_free_bytes": 11 * GIB - 300 * MIB,
        "disturbed": "",
        **changes,
    }


def learned(*overs: int, build: str = BUILD, **changes: Any) -> tuple[LearnedOverhead, ...]:
    return learn_overheads([seen for over in overs for seen in usage_seen([entry(over, **changes)], build)])


def test_used_after_less_before_less_the_buffers() -> None:
    (seen,) = usage_seen([entry()], BUILD)
    assert (seen.overhead_bytes, seen.beyond_bytes) == (430 * MIB, 130 * MIB)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"disturbed": "firefox (99) came during the load"}, id="another process moved"),
        pytest.param({"used_after_bytes": 600 * MIB}, id="less than the buffers: another gave memory back"),
        pytest.param({"buffers_bytes": 0}, id="nothing of the load is there"),
        pytest.param({"used_before_bytes": None}, id="a figure is missing"),
        pytest.param({"driver": KeyError}, id="a row of an older form"),
    ],
)
def test_what_says_nothing_of_the_load_is_not_learned_from(changes: dict[str, Any]) -> None:
    asked = {key: value for key, value in entry(**changes).items() if value is not KeyError}
    assert usage_seen([asked], BUILD) == ()


@pytest.mark.parametrize(
    ("runtime_free", "beyond"),
    [
        pytest.param(11 * GIB - 300 * MIB, 130 * MIB, id="a context of 300 MiB"),
        pytest.param(11 * GIB - 430 * MIB, 0, id="nothing after the context"),
        pytest.param(8 * GIB, None, id="a budget that has nothing to do with the driver's figure"),
        pytest.param(12 * GIB, None, id="more than the driver has free"),
        pytest.param(None, None, id="the log does not say"),
    ],
)
def test_the_context_is_told_from_what_came_after_it(runtime_free: int | None, beyond: int | None) -> None:
    (seen,) = usage_seen([entry(runtime_free_bytes=runtime_free)], BUILD)
    assert seen.beyond_bytes == beyond


def test_three_loads_replace_the_default_by_their_median() -> None:
    said = overhead_of(CARD, learned(428 * MIB, 431 * MIB, 433 * MIB))
    assert (said.size_bytes, said.low_bytes, said.high_bytes) == (431 * MIB, 428 * MIB, 433 * MIB)
    assert said.source == "learned (3 loads)"
    default = overhead_of(CARD, learned(428 * MIB, 431 * MIB))
    assert (default.size_bytes, default.source) == (456 * MIB, "default")


def test_an_odd_load_moves_the_edge_and_not_the_figure() -> None:
    said = overhead_of(CARD, learned(430 * MIB, 2 * GIB, 431 * MIB, 429 * MIB, 430 * MIB))
    assert said.size_bytes == 430 * MIB
    assert said.high_bytes == 2 * GIB


def test_a_free_figure_of_the_runtimes_holds_the_context_already() -> None:
    figures = learned(428 * MIB, 431 * MIB, 433 * MIB)
    assert overhead_of(READ_BY_RUNTIME).size_bytes == 0
    said = overhead_of(READ_BY_RUNTIME, figures)
    assert (said.size_bytes, said.source) == (131 * MIB, "learned (3 loads)")
    unseen = learned(428 * MIB, 431 * MIB, 433 * MIB, runtime_free_bytes=None)
    assert overhead_of(READ_BY_RUNTIME, unseen).size_bytes == 0


@pytest.mark.parametrize(
    "device",
    [
        pytest.param(replace(CARD, uuid="GPU-2"), id="another card of that name"),
        pytest.param(replace(CARD, driver="590.1"), id="another driver"),
        pytest.param(replace(CARD, kind="vulkan"), id="through another backend"),
        pytest.param(replace(CARD, source="--gpu"), id="described, not here"),
        pytest.param(replace(CARD, uuid=None, description="NVIDIA GeForce RTX 4090"), id="another name"),
    ],
)
def test_figures_are_kept_per_device_and_driver(device: Device) -> None:
    assert overhead_of(device, learned(1 * MIB, 2 * MIB, 3 * MIB)).source == "default"


def test_figures_of_two_runtimes_are_not_mixed() -> None:
    mixed = learn_overheads(
        [s for build in (BUILD, BUILD, "ollama 1.0 llama-server b2") for s in usage_seen([entry()], build)]
    )
    assert sorted(one.whole.loads for one in mixed) == [1, 2]
    assert overhead_of(CARD, mixed).source == "default"


def test_a_gpu_that_is_really_the_cpu_has_none() -> None:
    software = replace(CARD, kind="vulkan", description="llvmpipe (LLVM 15.0.6, 256 bits)", uuid=None)
    figures = learned(MIB, MIB, MIB, kind="vulkan", description=software.description, uuid=None)
    assert len(figures) == 1
    assert overhead_of(software, figures).size_bytes == 0


@given(st.lists(st.integers(0, 2 * GIB), min_size=FEWEST_LOADS, max_size=12))
def test_the_figure_is_one_that_was_seen_and_lies_between_its_edges(overs: list[int]) -> None:
    said = overhead_of(CARD, learned(*overs))
    assert said.size_bytes in overs
    assert min(overs) == said.low_bytes <= said.size_bytes <= said.high_bytes == max(overs)


@given(st.lists(st.integers(0, GIB), min_size=3, max_size=9), st.data())
def test_a_larger_overhead_never_makes_the_figure_or_an_edge_smaller(overs: list[int], data: st.DataObject) -> None:
    more = list(overs)
    more[data.draw(st.integers(0, len(overs) - 1))] += data.draw(st.integers(0, GIB))
    here, there = overhead_of(CARD, learned(*overs)), overhead_of(CARD, learned(*more))
    assert there.size_bytes >= here.size_bytes
    assert (there.low_bytes, there.high_bytes) >= (here.low_bytes, here.high_bytes)


def test_a_figure_seen_is_a_value() -> None:
    assert UsageSeen("GPU-1", "a", "cuda", None, BUILD, 1).key == ("GPU-1", "cuda", None, BUILD)
    assert UsageSeen(None, "a", "cuda", None, BUILD, 1).key == ("a", "cuda", None, BUILD)
