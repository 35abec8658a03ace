"""A replay answered from earlier ones, or from a few blocks, gives what a replay of its own would have given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenops.machine.types import Device
from qwenops.memory.backends import Backend, backend_of, host_backend
from qwenops.memory.cells import ANY_CELLS, ANY_STEPS, Sizes, steps_within
from qwenops.memory.chains import Chains
from qwenops.memory.compute import Compute, build, compute_bytes, copies_of_inputs, worst_batch
from qwenops.memory.kv import CELL_PADDING
from qwenops.memory.placement import Placement, place
from qwenops.memory.replays import Recorded, Replays, Structure
from qwenops.memory.scheduler import Scheduler
from qwenops.memory.shape import Shape, shape_of
from qwenops.memory.types import LoadSettings
from qwenops.memory.weights import Weights, place_weights
from qwenops.model.types import Model
from qwenops.units import GIB
from tests.support.shapes import TEXT, text_model

CARDS = [
    Device("CUDA0", "cuda", "a card", 24 * GIB, 24 * GIB),
    Device("Vulkan0", "vulkan", "a card", 24 * GIB, 24 * GIB),
    Device("Vulkan0", "vulkan", "llvmpipe", 2 * GIB, 2 * GIB),
    Device("MTL0", "metal", "a chip", 24 * GIB, 24 * GIB),
]
FAMILIES = ["qwen3-0.6b", "qwen3-vl-2b", "qwen3-30b-a3b", "qwen3.5-0.8b", "gemma-3-1b", "llama-3.2-1b", "qwen2.5-vl-3b"]
FEW_OF_EACH = ["qwen3-0.6b", "qwen3.5-0.8b", "gemma-3-1b", "deepseek-v2-lite", "lfm2-1.2b"]
FEW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SOME = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

Planned = tuple[Shape, Placement, Weights, list[Backend]]


def planned(model: Model, layers: int, cards: list[Device], host_experts: int = 0) -> Planned:
    shape = shape_of(model)
    backends = [backend_of(card) for card in cards]
    backends.append(host_backend(backends[0]))
    kept_back = frozenset(range(min(host_experts, shape.layers)))
    placement = place(shape.layers, layers, cards, host_experts=kept_back)
    return shape, placement, place_weights(model.header, shape, placement, backends), backends


def compute(
    model: Model, load: LoadSettings, layers: int, card: Device, replays: Replays, chains: Chains | None = None
) -> Compute:
    shape, placement, weights, backends = planned(model, layers, [card])
    return compute_bytes(shape, load, placement, weights, backends, replays=replays, chains=chains or Chains())


def of_all_blocks(
    load: LoadSettings, shape: Shape, placement: Placement, weights: Weights, backends: list[Backend]
) -> list[int]:
    """The graph of every block with the cells of the question: nothing shared, left out or interpolated."""
    batch, layout = worst_batch(shape, load, placement, weights, backends, pinned=True)
    layout = replace(layout, blocks=range(shape.trunk_layers))
    first = Scheduler(backends, copies=copies_of_inputs(placement, backends))
    peaks = first.peaks(build(shape, layout, batch))
    if not first.room:
        return peaks
    again = Scheduler(backends, copies=copies_of_inputs(placement, backends), room=first.room)
    return [max(each) for each in zip(peaks, again.peaks(build(shape, layout, batch)), strict=True)]


@SOME
@given(
    family=st.sampled_from(sorted(TEXT)) | st.sampled_from(FAMILIES),
    quant=st.sampled_from(["Q4_K_M", "Q8_0", "F16"]),
    cards=st.sampled_from(
        [[CARDS[0]], [CARDS[1]], [CARDS[2]], [CARDS[3]], [CARDS[0], replace(CARDS[0], name="CUDA1")]]
    ),
    kv=st.sampled_from(["f16", "q8_0"]),
    flash=st.sampled_from(["auto", "auto", "off"]),
    ubatch=st.sampled_from([8, 72, 512]),
    parallel=st.sampled_from([1, 3]),
    layers=st.integers(0, 50) | st.just(999),
    host_experts=st.sampled_from([0, 0, 5, 99]),
    num_ctx=st.integers(256, 140_000),
)
def test_a_few_blocks_tell_of_all(
    family: str,
    quant: str,
    cards: list[Device],
    kv: str,
    flash: str,
    ubatch: int,
    parallel: int,
    layers: int,
    host_experts: int,
    num_ctx: int,
) -> None:
    kv = "f16" if flash == "off" else kv
    load = LoadSettings(num_ctx=num_ctx, ubatch=ubatch, parallel=parallel, kv_type_k=kv, kv_type_v=kv, flash_attn=flash)  # type: ignore[arg-type]
    asked = planned(text_model(TEXT[family], quant), layers, cards, host_experts)
    answer = compute_bytes(asked[0], load, *asked[1:], replays=Replays(), chains=Chains())
    assert list(answer.bytes_by_backend) == of_all_blocks(load, *asked)


@pytest.mark.parametrize(
    ("family", "borders"), [("qwen3-0.6b", 1), ("qwen3.5-0.8b", 4), ("gemma-3-4b", 6)], ids=["one", "four", "six"]
)
def test_a_border_is_recorded_once_for_any_cells_quant_and_side(family: str, borders: int) -> None:
    """Where the border can fall in a period of blocks decides what is recorded, not how many blocks there are."""
    recorded: list[Sequence[int]] = []

    def record(blocks: Sequence[int]) -> Recorded:
        recorded.append(blocks)
        built = build(shape, replace(layout, blocks=blocks), of_any)
        return Recorded((Scheduler(backends, steps=steps).tape(built),), 0, ANY_STEPS)

    chains, load = Chains(), LoadSettings()
    for quant in ("Q4_K_M", "Q8_0"):
        model = text_model(replace(TEXT[family], layers=60), quant)
        for layers in range(25, 37):
            shape, placement, weights, backends = planned(model, layers, CARDS[:1])
            batch, layout = worst_batch(shape, load, placement, weights, backends, pinned=True)
            of_any = replace(batch, cells=ANY_CELLS)
            structure = Structure(shape, of_any, layout, weights, tuple(backends), 1)
            for steps in (16, 32, 100):
                assert chains.peaks(structure, steps, record) is not None
    assert len(recorded) == borders
    assert all(len(blocks) < shape.trunk_layers for blocks in recorded)


@FEW
@given(
    st.sampled_from([f for f in FAMILIES if f in TEXT]),
    st.sampled_from(CARDS),
    st.sampled_from(["f16", "q8_0", "q4_0"]),
    st.sampled_from([8, 9, 64, 512]),
    st.sampled_from([0, 7, 99]),
    st.lists(st.integers(256, 200_000), min_size=5, max_size=7),
)
def test_other_contexts(family: str, card: Device, kv: str, ubatch: int, layers: int, contexts: list[int]) -> None:
    model, shared, chains = text_model(TEXT[family]), Replays(), Chains()
    for num_ctx in contexts:
        load = LoadSettings(num_ctx=num_ctx, ubatch=ubatch, kv_type_k=kv, kv_type_v=kv)  # type: ignore[arg-type]
        answer = compute(model, load, layers, card, shared, chains)
        assert answer == compute(model, load, layers, card, Replays())


@FEW
@given(
    st.sampled_from([*FAMILIES[1:3], *FEW_OF_EACH]),
    st.sampled_from(CARDS),
    st.lists(st.tuples(st.sampled_from(["Q8_0", "Q6_K", "F16", "Q4_K_M"]), st.integers(0, 60)), min_size=4, max_size=6),
)
def test_other_quants_and_placements(family: str, card: Device, loads: list[tuple[str, int]]) -> None:
    shared, chains, load = Replays(), Chains(), LoadSettings(num_ctx=8192)
    for quant, layers in loads:
        model = text_model(TEXT[family], quant)
        answer = compute(model, load, layers, card, shared, chains)
        assert answer == compute(model, load, layers, card, Replays())


@FEW
@given(
    family=st.sampled_from(
        ["qwen3-0.6b", "qwen3.5-0.8b", "gemma-3-1b", "deepseek-v2-lite", "lfm2-1.2b", "gemma-4-e2b"]
    ),
    card=st.sampled_from(CARDS[:3]),
    flash=st.sampled_from(["on", "off"]),
    layers=st.sampled_from([0, 9, 99]),
    steps=st.integers(1, 500),
)
def test_a_graph_for_any_cells_has_the_sizes_of_every_one(
    family: str, card: Device, flash: str, layers: int, steps: int
) -> None:
    shape, placement, weights, backends = planned(text_model(TEXT[family]), layers, [card])
    load = LoadSettings(num_ctx=steps * CELL_PADDING, flash_attn=flash)  # type: ignore[arg-type]
    batch, layout = worst_batch(shape, load, placement, weights, backends, pinned=True)
    layout = replace(layout, blocks=range(shape.trunk_layers))
    asked = Scheduler(backends).tape(build(shape, layout, batch))
    of_any = Scheduler(backends, steps=steps).tape(build(shape, layout, replace(batch, cells=ANY_CELLS)))
    assert asked.moves == of_any.moves
    assert asked.sizes == Sizes(of_any.sizes, [1] * len(of_any.sizes)).at(steps)


@pytest.mark.parametrize(
    ("each", "rest", "limit", "steps"),
    [(4, 100, 120, 5), (4, 100, 123, 5), (4, 100, 99, -1), (4, 100, 100, 0), (0, 100, 99, -1)],
    ids=["just fits", "a rest that holds no step", "too large without cells", "room for none", "does not grow"],
)
def test_how_many_steps_of_cells_a_limit_leaves_room_for(each: int, rest: int, limit: int, steps: int) -> None:
    size = each * (ANY_CELLS // CELL_PADDING) + rest
    assert steps_within(size, limit) == steps
    sizes = Sizes([size], [1])
    assert sizes.at(max(steps, 0))[0] <= max(limit, rest)
    assert sizes.at(steps + 1)[0] > limit


def test_a_size_that_does_not_grow_fits_whatever_the_cells_are() -> None:
    assert steps_within(100, 100) == ANY_STEPS
