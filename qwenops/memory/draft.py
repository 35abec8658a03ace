"""A draft head in the model's own file (MTP): whether it is in force, and what its context takes.

llama-server loads the head's block with the model and makes a second context for it: a cache for that block alone,
of plain f16, and compute buffers of its own. The main context keeps one more recurrent state for each token drafted
ahead, and reserves as many more rows of output (common/speculative.cpp, tools/server/server-context.cpp,
src/llama-context.cpp; llama.cpp b10434).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qwenops.memory import tensor as tf
from qwenops.memory.backends import Backend
from qwenops.memory.graphs.pieces import Batch, Layout
from qwenops.memory.kv import cells_per_stream, micro_batch, streams
from qwenops.memory.placement import Placement
from qwenops.memory.quants import kv_type_number
from qwenops.memory.shape import Shape
from qwenops.memory.types import LoadSettings
from qwenops.memory.weights import Weights
from qwenops.units import pad

# llm_arch_supports_rs_rollback, as far as the closed form knows the states of an architecture
_ROLLS_BACK = frozenset({"qwen35", "qwen35moe", "nemotron_h", "nemotron_h_moe"})
# whose head is replayed in full
REPLAYED = frozenset({"qwen35", "qwen35moe"})


def drafts(shape: Shape, settings: LoadSettings) -> bool:
    """Whether the model's own head is loaded: drafts are asked for, and it is there."""
    return settings.draft_tokens > 0 and shape.trunk_layers < shape.layers


def is_drafted_for(shape: Shape, settings: LoadSettings) -> bool:
    """Whether tokens are drafted for the model, by its own head or by a draft model."""
    return drafts(shape, settings) or bool(settings.draft_tokens and settings.draft_model)


def snapshots(shape: Shape, settings: LoadSettings) -> int:
    """Recurrent states that are kept beside the last one, so that drafted tokens can be taken back."""
    rolls_back = is_drafted_for(shape, settings) and shape.architecture in _ROLLS_BACK
    return settings.draft_tokens if rolls_back else 0


def output_rows(shape: Shape, settings: LoadSettings) -> int:
    """Rows of output that a server reserves: one for each sequence and each token drafted for it."""
    return settings.parallel * (1 + settings.draft_tokens if is_drafted_for(shape, settings) else 1)


def with_kept_states(shape: Shape, settings: LoadSettings) -> LoadSettings:
    """The settings under which the state is as large as it is with what is kept for drafts."""
    kept = snapshots(shape, settings)
    return replace(settings, parallel=settings.parallel * (1 + kept)) if kept else settings


def draft_cache_bytes(
    shape: Shape, settings: LoadSettings, placement: Placement, backends: Sequence[Backend]
) -> tuple[int, ...]:
    """The head's own cache by backend: f16, whatever the type of the model's."""
    sums = [0] * len(backends)
    f16 = kv_type_number("f16")
    for layer in range(shape.trunk_layers, shape.layers):
        backend = placement.backends[layer]
        for width in (shape.k_width(layer), shape.v_width(layer)):
            t = tf.leaf(f16, width, cells_per_stream(settings), streams(settings))
            sums[backend] += pad(backends[backend].allocation_bytes(t), backends[backend].alignment) if width else 0
    return tuple(sums)


def draft_compute_bytes(
    shape: Shape,
    settings: LoadSettings,
    placement: Placement,
    weights: Weights,
    backends: Sequence[Backend],
    *,
    flash: bool,
    copies: int,
    pinned: bool,
) -> tuple[int, ...] | None:
    """The compute buffers of the head's context by backend; None where its graph is not replayed."""
    if shape.architecture not in REPLAYED:
        return None
    from qwenops.memory.graphs.draft_head import DraftHead
    from qwenops.memory.scheduler import Scheduler

    tokens, f16 = micro_batch(settings), kv_type_number("f16")
    batch = Batch(
        tokens=pad(tokens, settings.parallel),
        sequences=settings.parallel,
        streams=streams(settings),
        outputs=min(tokens, settings.parallel),
        cells=cells_per_stream(settings),
        type_k=f16,
        type_v=f16,
        flash=flash,
        v_transposed=settings.flash_attn == "off",
    )
    layout = Layout(weights.find, placement.backends, [shape.trunk_layers], placement.full, pinned=pinned)
    try:
        graph = DraftHead(shape, layout, batch).build()
    except LookupError:
        return None
    return tuple(Scheduler(backends, copies=copies).peaks(graph))
