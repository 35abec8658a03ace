"""Whether the fused attention stays where its block is: what decides flash attention "auto" for models with a state.

The runtime builds the graph of one token a sequence, lets its scheduler place it, and gives the fused attention up for
all blocks when one is not on its block's device (llama_context::resolve_fused_ops, llama.cpp b10434). That happens on
the way from the host to a device: the states of the next block with one are fetched before the block that attends is
through, so its attention stands next to operations of the device and goes there with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qwenops.memory.backends import Backend
from qwenops.memory.graphs import GRAPHS
from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.graphs.hybrid import Hybrid
from qwenops.memory.graphs.pieces import Batch, Layout
from qwenops.memory.scheduler import Scheduler
from qwenops.memory.shape import Shape


def may_leave(shape: Shape, layout: Layout) -> bool:
    """Whether anything is fetched early: not where all is on devices."""
    maker = GRAPHS.get(shape.architecture, Decoder)
    return not layout.full and any(shape.recurrent) and not issubclass(maker, Hybrid)


def attention_stays(shape: Shape, layout: Layout, batch: Batch, backends: Sequence[Backend]) -> bool:
    """Whether the fused attention of every block is placed where the block's cache lies."""
    if not may_leave(shape, layout):
        return True
    maker = GRAPHS.get(shape.architecture, Decoder)
    probe = replace(batch, tokens=batch.sequences, outputs=batch.sequences)
    graph = maker(shape, layout, probe).build()
    Scheduler(backends).assign(graph)
    for t in graph.nodes:
        if t.op == "FLASH_ATTN_EXT":
            cache = t.src[1].view_of
            if cache is not None and cache.place != t.backend:
                return False
    return True
