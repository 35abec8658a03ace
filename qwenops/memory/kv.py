"""The key-value cache: how many cells, and how many bytes on each backend.

llama_kv_cache and llama_kv_cache_iswa (src/llama-kv-cache*.cpp, llama.cpp b10434). A cache has a stream for each
sequence, as llama-server makes it when it is given a number of slots, or one for all when it is unified.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

from qwenops.memory import tensor as tf
from qwenops.memory.backends import Backend
from qwenops.memory.placement import Placement
from qwenops.memory.quants import kv_type_number
from qwenops.memory.shape import Shape
from qwenops.memory.types import LoadSettings
from qwenops.units import pad

CELL_PADDING = 256


def streams(settings: LoadSettings) -> int:
    """How many caches lie side by side: one a sequence, or one for all."""
    return 1 if settings.kv_unified else settings.parallel


def cells_per_stream(settings: LoadSettings) -> int:
    """Cells of one stream: its context up to the next multiple of 256."""
    return pad(settings.num_ctx * settings.parallel // streams(settings), CELL_PADDING)


def layer_cells(shape: Shape, settings: LoadSettings, layer: int) -> int:
    """Cells of one block; a sliding window needs its width and one batch."""
    return window_cells(shape, settings) if shape.sliding[layer] else cells_per_stream(settings)


def window_cells(shape: Shape, settings: LoadSettings) -> int:
    """Cells of one stream in a block that sees only a window: a window for each of its sequences, and one batch."""
    cells = cells_per_stream(settings)
    if settings.swa_full:
        return cells
    windows = shape.window * (settings.parallel if settings.kv_unified else 1)
    return pad(min(cells, windows + micro_batch(settings)), CELL_PADDING)


def micro_batch(settings: LoadSettings) -> int:
    """Tokens of one compute batch, limited by the batch and the whole context (before it is padded)."""
    return min(settings.num_ctx * settings.parallel, settings.batch, settings.ubatch)


def kv_bytes(
    shape: Shape,
    settings: LoadSettings,
    placement: Placement,
    backends: Sequence[Backend],
    *,
    blocks: Sequence[int] | None = None,
) -> tuple[int, ...]:
    """Cache bytes by backend, of all blocks or of those named; a block's cache lies where the block does."""
    sums = [0] * len(backends)
    for (type_, width, cells, backend), times in _cache_tensors(shape, settings, placement, blocks).items():
        t = tf.leaf(type_, width, cells, streams(settings))
        sums[backend] += times * pad(backends[backend].allocation_bytes(t), backends[backend].alignment)
    return tuple(sums)


def largest_cache_tensor_bytes(shape: Shape, settings: LoadSettings, placement: Placement, backend: int) -> int:
    """Bytes of the largest single cache tensor on a backend: K or V of one block for all sequences."""
    kinds = {tensor[:3] for tensor in _cache_tensors(shape, settings, placement) if tensor[3] == backend}
    return max((tf.leaf(*kind, streams(settings)).size for kind in kinds), default=0)


@lru_cache(maxsize=64)
def cache_owners(shape: Shape) -> tuple[int, ...]:
    """The blocks that keep keys and values."""
    return tuple(i for i in range(shape.layers) if shape.owns_cache(i))


def _cache_tensors(
    shape: Shape, settings: LoadSettings, placement: Placement, blocks: Sequence[int] | None = None
) -> dict[tuple[int, int, int, int], int]:
    """How many tensors the cache, or that of some blocks, has of each type, width, number of cells and backend."""
    type_k, type_v = kv_type_number(settings.kv_type_k), kv_type_number(settings.kv_type_v)
    widest = max((shape.v_width(i) for i in range(shape.layers)), default=0) if settings.flash_attn == "off" else 0
    whole, window = cells_per_stream(settings), window_cells(shape, settings)
    found: Counter[tuple[int, int, int, int]] = Counter()
    rows, where = _rows(shape), placement.backends
    owners = cache_owners(shape) if blocks is None else blocks
    for ((sliding, k_width, v_width), backend), times in Counter((rows[i], where[i]) for i in owners).items():
        cells = window if sliding else whole
        found[type_k, k_width, cells, backend] += times
        found[type_v, widest or v_width, cells, backend] += times
    if widest and blocks is None and not any(shape.recurrent):
        # values on their side are as wide as the widest block's, in a block without heads as well
        found.update((type_v, widest, whole, where[i]) for i in _without_heads(shape))
    return {tensor: times for tensor, times in found.items() if tensor[1]}


@lru_cache(maxsize=64)
def _rows(shape: Shape) -> tuple[tuple[bool, int, int], ...]:
    """Of each block whether it sees only a window, and the widths of its cached key and value."""
    return tuple((shape.sliding[i], shape.k_width(i), shape.v_width(i)) for i in range(shape.layers))


def _without_heads(shape: Shape) -> Iterator[int]:
    return (i for i in range(shape.trunk_layers) if shape.kv_heads[i] == 0 and i < shape.layers - shape.sharing)
