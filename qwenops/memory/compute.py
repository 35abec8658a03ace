"""Compute buffers of a text model: the runtime's worst batch, built, scheduled and allocated in miniature.

A model's blocks repeat: a few of them are built and scheduled, and all are allocated (chains.py).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

from qwenops.memory import tensor as tf
from qwenops.memory.backends import OFFLOAD_ROWS, Backend
from qwenops.memory.cells import ANY_CELLS
from qwenops.memory.chains import Chains
from qwenops.memory.draft import output_rows, snapshots
from qwenops.memory.flash import attention_stays
from qwenops.memory.graphs import GRAPHS
from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.graphs.draft_head import RollingBack
from qwenops.memory.graphs.hybrid import Hybrid
from qwenops.memory.graphs.pieces import Batch, Layout
from qwenops.memory.kv import CELL_PADDING, cache_owners, cells_per_stream, micro_batch, streams, window_cells
from qwenops.memory.placement import Placement
from qwenops.memory.quants import is_quantized, kv_type_number
from qwenops.memory.replays import Recorded, Replays, Structure
from qwenops.memory.scheduler import PIPELINE_COPIES, Scheduler
from qwenops.memory.shape import Shape
from qwenops.memory.tensor import Graph
from qwenops.memory.types import LoadSettings
from qwenops.memory.weights import Weights
from qwenops.units import pad

_PROBE_TOKENS = 16


@dataclass(frozen=True)
class Compute:
    """Compute buffer bytes by backend, and which attention path was reserved for."""

    bytes_by_backend: tuple[int, ...]
    flash: bool


def compute_bytes(
    shape: Shape,
    settings: LoadSettings,
    placement: Placement,
    weights: Weights,
    backends: Sequence[Backend],
    *,
    rehearsal: bool = False,
    replays: Replays | None = None,
    chains: Chains | None = None,
) -> Compute:
    """The compute buffers that the runtime reserves when it makes the context (llama_context::sched_reserve).

    `rehearsal` gives what its fit sees before a load: there the pins of norms to their layer's device are lost
    (ggml_backend_sched_reserve_size resets them), which between two devices costs one more copy of a batch's rows.
    `replays` and `chains` are earlier ones to make use of, those of the process where none are given.
    """
    batch, layout = worst_batch(shape, settings, placement, weights, backends, pinned=not rehearsal)
    copies = copies_of_inputs(placement, backends)
    # sizes hold for any number of cells, but for the blocks of keys that Metal counts up to the next 32
    any_cells = all(b.kind != "metal" for b in backends) or batch.tokens // batch.streams % 64 == 0
    graph_of = _for_any_cells(batch, settings) if any_cells else batch
    steps = batch.cells // CELL_PADDING if any_cells else 0

    def record(blocks: Sequence[int]) -> Recorded:
        built = replace(layout, blocks=blocks)
        planned = [Scheduler(backends, copies=copies, steps=steps)]
        with _nothing_collected():
            tapes = [planned[0].tape(build(shape, built, graph_of))]
            if planned[0].room:
                planned.append(Scheduler(backends, copies=copies, room=planned[0].room, steps=steps))
                tapes.append(planned[1].tape(build(shape, built, graph_of)))
        return Recorded(tuple(tapes), max(p.least_steps for p in planned), min(p.most_steps for p in planned))

    structure = Structure(shape, graph_of, layout, weights, tuple(backends), copies)
    try:
        peaks = (chains or _chains).peaks(structure, steps, record)
        if peaks is None:
            peaks = (replays or _replays).peaks(structure, steps, record)
    except LookupError:
        return Compute(_guess(shape, batch, placement, weights), batch.flash)
    return Compute(tuple(peaks), batch.flash)


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Thousands of tensors are made and dropped at once: looking through them for rings on the way is wasted."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


_replays = Replays()
_chains = Chains()


def worst_batch(
    shape: Shape,
    settings: LoadSettings,
    placement: Placement,
    weights: Weights,
    backends: Sequence[Backend],
    *,
    pinned: bool,
) -> tuple[Batch, Layout]:
    """The batch that is reserved for, on the attention path that is taken, and where things lie."""
    tokens = _tokens(shape, settings)
    embeds = shape.pooling is not None and settings.outputs == "server"
    every_row = embeds or settings.outputs == "library"
    batch = Batch(
        tokens=pad(tokens, settings.parallel),
        sequences=settings.parallel,
        streams=streams(settings),
        outputs=tokens if every_row else min(tokens, output_rows(shape, settings)),
        cells=cells_per_stream(settings),
        window_cells=window_cells(shape, settings),
        type_k=kv_type_number(settings.kv_type_k),
        type_v=kv_type_number(settings.kv_type_v),
        flash=settings.flash_attn != "off",
        v_transposed=settings.flash_attn == "off",
        fused_recurrence=_recurrence_fused(settings, placement, backends),
        pooling=shape.pooling if embeds else None,
        snapshots=snapshots(shape, settings),
    )
    # A quantized V cache needs the fused attention: there "auto" is "on" (llama_init_from_model).
    undecided = settings.flash_attn == "auto" and not is_quantized(batch.type_v)
    if undecided and not _flash_runs(shape, batch, placement, backends):
        batch = replace(batch, flash=False)
    blocks = range(shape.trunk_layers)
    layout = Layout(weights.find, placement.backends, blocks, placement.full, pinned=pinned)
    if undecided and batch.flash and not attention_stays(shape, layout, batch, backends, weights.forms):
        batch = replace(batch, flash=False)
    return batch, layout


def _for_any_cells(batch: Batch, settings: LoadSettings) -> Batch:
    return replace(batch, cells=ANY_CELLS, window_cells=ANY_CELLS if settings.swa_full else batch.window_cells)


def _tokens(shape: Shape, settings: LoadSettings) -> int:
    """Tokens of the largest batch; one that sees itself whole is cut to the padded context only."""
    if shape.causal:
        return micro_batch(settings)
    return min(cells_per_stream(settings) * streams(settings), settings.batch, settings.ubatch)


def build(shape: Shape, layout: Layout, batch: Batch) -> Graph:
    """The graph of an architecture; one that is not known is tried as a usual decoder."""
    if batch.snapshots and GRAPHS.get(shape.architecture) is Hybrid:
        return RollingBack(shape, layout, batch).build()
    return GRAPHS.get(shape.architecture, Decoder)(shape, layout, batch).build()


def _guess(shape: Shape, batch: Batch, placement: Placement, weights: Weights) -> tuple[int, ...]:
    """A model whose tensors have other names: the rows alive in a usual block, the logits, the mask."""
    widest = max(
        (t.shape[1] for t, _ in weights.each() if len(t.shape) == 2 and t.shape[1] < shape.vocabulary),
        default=0,
    )
    rows = 4 * batch.tokens * (4 * shape.embedding + 2 * max(widest, shape.embedding))
    logits = 4 * batch.outputs * shape.vocabulary
    mask = 2 * batch.tokens * batch.cells
    scores = 0 if batch.flash else 4 * batch.tokens * batch.cells * shape.heads
    passing = 0
    if not placement.full:
        passing = max((t.size_bytes for t, b in weights.each() if b == placement.cpu), default=0)
    return (*((rows + logits + mask + scores + passing,) * placement.cpu), rows + mask)


def _flash_runs(shape: Shape, batch: Batch, placement: Placement, backends: Sequence[Backend]) -> bool:
    """Whether every device with attention blocks can run the fused attention (flash attention "auto")."""
    blocks = cache_owners(shape) if shape.cached else range(shape.trunk_layers)
    kinds = {(placement.backends[i], shape.kv_heads[i], shape.sliding[i]) for i in blocks if i < shape.trunk_layers}
    return all(_runs_flash(backends[backend], shape, batch, heads, sliding) for backend, heads, sliding in kinds)


@lru_cache(maxsize=1024)
def _runs_flash(backend: Backend, shape: Shape, batch: Batch, heads: int, sliding: bool) -> bool:
    cells = batch.window_cells if sliding else batch.cells
    type_k, type_v = (batch.type_k, batch.type_v) if shape.cached else (tf.F16, tf.F16)
    head_k = shape.window_head_k if sliding and shape.window_head_k else shape.head_k
    head_v = shape.window_head_v if sliding and shape.window_head_v else shape.head_v
    q = tf.leaf(tf.F32, head_k, 1, shape.heads)
    k = tf.leaf(type_k, head_k, cells, heads)
    v = tf.leaf(type_v, head_v, cells, heads)
    return backend.supports(tf.flash_attention(q, k, v, tf.leaf(tf.F16, cells, 1)))


def _recurrence_fused(settings: LoadSettings, placement: Placement, backends: Sequence[Backend]) -> bool:
    """Whether the delta net of a hybrid is one operation for prompts.

    The runtime tries it with 16 tokens a sequence; where that is enough rows for host blocks to be computed on a
    device, it finds the operation on another device than its block and gives it up for all blocks.
    """
    if placement.full or len(backends) == 1:
        return True
    return _PROBE_TOKENS * settings.parallel < OFFLOAD_ROWS


def copies_of_inputs(placement: Placement, backends: Sequence[Backend]) -> int:
    """How many batches are under way at once, each with its own inputs."""
    return PIPELINE_COPIES if _pipelined(placement, backends) else 1


def _pipelined(placement: Placement, backends: Sequence[Backend]) -> bool:
    """Several devices with every layer on them work as a pipeline, with copies of the inputs."""
    devices = [b for b in backends if not b.is_host]
    return len(devices) > 1 and placement.full and not placement.host_experts and not placement.overflows
