"""Whether the fused attention stays where its block is: what decides flash attention "auto" for models with a state.

The runtime builds the graph of one token a sequence, lets its scheduler place it, and gives the fused attention up for
all blocks when one is not on its block's device (llama_context::resolve_fused_ops, llama.cpp b10434). That happens on
the way from the host to a device: the states of the next block with one are fetched before the block that attends is
through, so its attention stands next to operations of the device and goes there with them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Final

from qwenops.memory.backends import Backend
from qwenops.memory.cells import ANY_CELLS
from qwenops.memory.graphs import GRAPHS
from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.graphs.hybrid import Hybrid
from qwenops.memory.graphs.pieces import Batch, Layout
from qwenops.memory.kv import CELL_PADDING
from qwenops.memory.scheduler import Scheduler
from qwenops.memory.shape import Shape
from qwenops.memory.tensor import Graph


def attention_stays(
    shape: Shape, layout: Layout, batch: Batch, backends: Sequence[Backend], forms: tuple[int, ...]
) -> bool:
    """Whether the fused attention of every block is placed where the block's cache lies.

    `forms` are those of the weights (weights.py), by which an earlier answer is found again.
    """
    maker = GRAPHS.get(shape.architecture, Decoder)
    if layout.full or not any(shape.recurrent) or issubclass(maker, Hybrid):
        return True  # all on devices, or nothing is fetched early
    probe = replace(batch, tokens=batch.sequences, outputs=batch.sequences, cells=ANY_CELLS)
    steps = batch.cells // CELL_PADDING
    key = (shape, probe, forms, layout.layer_backend, layout.pinned, tuple(backends))
    for least, most, answer in _answers.get(key, ()):
        if least <= steps <= most:
            return answer
    scheduler = Scheduler(backends, steps=steps)
    stays = _stays(maker(shape, layout, probe).build(), scheduler)
    if len(_answers) >= _KEPT:
        _answers.pop(next(iter(_answers)))
    _answers.setdefault(key, []).append((scheduler.least_steps, scheduler.most_steps, stays))
    return stays


_KEPT: Final = 1024
_answers: dict[Hashable, list[tuple[int, int, bool]]] = {}  # between how many steps of cells, and whether it stays


def _stays(graph: Graph, scheduler: Scheduler) -> bool:
    scheduler.assign(graph)
    for t in graph.nodes:
        if t.op == "FLASH_ATTN_EXT":
            cache = t.src[1].view_of
            if cache is not None and cache.place != t.backend:
                return False
    return True
