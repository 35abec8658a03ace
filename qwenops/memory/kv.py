"""The key-value cache: how many cells, and how many bytes on each backend.

llama_kv_cache and llama_kv_cache_iswa (src/llama-kv-cache*.cpp, llama.cpp b10434), caches of one stream a sequence as
llama-server makes them when it is given a number of slots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qwenops.memory import tensor as tf
from qwenops.memory.backends import Backend
from qwenops.memory.placement import Placement
from qwenops.memory.quants import kv_type_number
from qwenops.memory.shape import Shape
from qwenops.memory.types import LoadSettings
from qwenops.units import pad

CELL_PADDING = 256


def cells_per_sequence(settings: LoadSettings) -> int:
    """Cells of one sequence: the context up to the next multiple of 256."""
    return pad(settings.num_ctx, CELL_PADDING)


def layer_cells(shape: Shape, settings: LoadSettings, layer: int) -> int:
    """Cells of one block; a sliding window needs its width and one batch."""
    return window_cells(shape, settings) if shape.sliding[layer] else cells_per_sequence(settings)


def window_cells(shape: Shape, settings: LoadSettings) -> int:
    """Cells of one sequence in a block that sees only a window."""
    cells = cells_per_sequence(settings)
    if settings.swa_full:
        return cells
    return pad(min(cells, shape.window + micro_batch(settings)), CELL_PADDING)


def micro_batch(settings: LoadSettings) -> int:
    """Tokens of one compute batch, limited by the batch and the whole context (before it is padded)."""
    return min(settings.num_ctx * settings.parallel, settings.batch, settings.ubatch)


def kv_bytes(
    shape: Shape, settings: LoadSettings, placement: Placement, backends: Sequence[Backend]
) -> tuple[int, ...]:
    """Cache bytes by backend; a block's cache lies where the block does."""
    sums = [0] * len(backends)
    for t, backend in _cache_tensors(shape, settings, placement):
        sums[backend] += pad(backends[backend].allocation_bytes(t), backends[backend].alignment)
    return tuple(sums)


def largest_cache_tensor_bytes(shape: Shape, settings: LoadSettings, placement: Placement, backend: int) -> int:
    """Bytes of the largest single cache tensor on a backend: K or V of one block for all sequences."""
    return max((t.size for t, b in _cache_tensors(shape, settings, placement) if b == backend), default=0)


def _cache_tensors(shape: Shape, settings: LoadSettings, placement: Placement) -> Iterator[tuple[tf.Tensor, int]]:
    type_k, type_v = kv_type_number(settings.kv_type_k), kv_type_number(settings.kv_type_v)
    widest = max((shape.v_width(i) for i in range(shape.layers)), default=0)
    for layer in range(shape.layers):
        if not shape.owns_cache(layer):
            continue
        cells = layer_cells(shape, settings, layer)
        v_width = widest if settings.flash_attn == "off" else shape.v_width(layer)
        for type_, width in ((type_k, shape.k_width(layer)), (type_v, v_width)):
            if width:
                yield tf.leaf(type_, width, cells, settings.parallel), placement.backends[layer]
