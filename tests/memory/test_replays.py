"""A replay that is answered from earlier ones gives what a replay of its own would have given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenops.machine.types import Device
from qwenops.memory.allocator import Tape
from qwenops.memory.backends import Backend, backend_of, host_backend
from qwenops.memory.compute import Compute, compute_bytes
from qwenops.memory.placement import place
from qwenops.memory.replays import Recorded, Replays, Structure
from qwenops.memory.shape import shape_of
from qwenops.memory.types import LoadSettings
from qwenops.memory.weights import place_weights
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
FEW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def compute(model: Model, load: LoadSettings, layers: int, card: Device, replays: Replays) -> Compute:
    shape, device = shape_of(model), backend_of(card)
    backends = [device, host_backend(device)]
    placement = place(shape.layers, layers, [card])
    weights = place_weights(model.header, shape, placement, backends)
    return compute_bytes(shape, load, placement, weights, backends, replays=replays)


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
    model, shared = text_model(TEXT[family]), Replays()
    for num_ctx in contexts:
        load = LoadSettings(num_ctx=num_ctx, ubatch=ubatch, kv_type_k=kv, kv_type_v=kv)  # type: ignore[arg-type]
        assert compute(model, load, layers, card, shared) == compute(model, load, layers, card, Replays())


@FEW
@given(
    st.sampled_from(FAMILIES[:4]),
    st.sampled_from(CARDS),
    st.lists(st.tuples(st.sampled_from(["Q8_0", "Q6_K", "F16", "Q4_K_M"]), st.integers(0, 60)), min_size=4, max_size=6),
)
def test_other_quants_and_placements(family: str, card: Device, loads: list[tuple[str, int]]) -> None:
    shared, load = Replays(), LoadSettings(num_ctx=8192)
    for quant, layers in loads:
        model = text_model(TEXT[family], quant)
        assert compute(model, load, layers, card, shared) == compute(model, load, layers, card, Replays())


class OneHeap:
    """A structure of one buffer, as far as Replays looks at it."""

    backends = (Backend("GPU", "cuda", 1),)

    def key(self, *, typed: bool) -> str:
        return "typed" if typed else "outline"


def asked(size: Callable[[int], int], contexts: Iterable[int]) -> tuple[list[int], int]:
    """The answers for a graph of one tensor whose size follows the cells, and how many were replayed."""
    replays, calls = Replays(), []

    def record(cells: int) -> Recorded:
        calls.append(cells)
        return Recorded((Tape([0, ~0], [size(cells)], [0]),), by_type=False)

    structure = cast("Structure", OneHeap())
    answers = [replays.peaks(structure, cells, record, reach=(256, 65536))[0] for cells in contexts]
    return answers, len(calls)


CONTEXTS = [n * 256 for n in (40, 8, 20, 3, 200, 41, 100, 9, 60, 12, 256)]


@pytest.mark.parametrize(
    ("size", "at_most"),
    [
        (lambda cells: 1000 + 4 * cells, 5),
        (lambda cells: 5000, 5),
        (lambda cells: 4 * min(cells, 2560), len(CONTEXTS) + 2),
        (lambda cells: 4 * max(cells, 10240), len(CONTEXTS) + 2),
        (lambda cells: cells * cells, len(CONTEXTS) + 2),
    ],
    ids=["grows", "stays", "capped", "at least", "curved"],
)
def test_only_what_is_on_one_line_is_not_replayed(size: Callable[[int], int], at_most: int) -> None:
    answers, replayed = asked(size, CONTEXTS)
    assert answers == [size(cells) for cells in CONTEXTS]
    assert replayed <= at_most


def test_what_depends_on_the_types_of_weights_is_not_shared_between_quants() -> None:
    replays = Replays()

    class Typed(OneHeap):
        def __init__(self, quant: str, size: int) -> None:
            self.quant, self.size = quant, size

        def key(self, *, typed: bool) -> str:
            return self.quant if typed else "outline"

        def record(self, _: int) -> Recorded:
            return Recorded((Tape([0], [self.size], [0]),), by_type=True)

    for _ in range(2):
        for quant, size in (("Q4_K_M", 100), ("Q8_0", 200)):
            one = Typed(quant, size)
            assert replays.peaks(cast("Structure", one), 256, one.record, reach=(256, 256)) == [size]
