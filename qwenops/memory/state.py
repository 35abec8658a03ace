"""The recurrent state of hybrid and recurrent models: constant per sequence, always float.

llama_memory_recurrent (src/llama-memory-recurrent.cpp, llama.cpp b10434).
"""

from __future__ import annotations

from collections.abc import Sequence

from qwenops.memory.backends import Backend
from qwenops.memory.placement import Placement
from qwenops.memory.shape import Shape
from qwenops.memory.types import LoadSettings
from qwenops.units import pad


def state_bytes(
    shape: Shape, settings: LoadSettings, placement: Placement, backends: Sequence[Backend]
) -> tuple[int, ...]:
    """State bytes by backend: what each recurrent block remembers of the last tokens, and its state matrix."""
    sums = [0] * len(backends)
    for layer in range(shape.trunk_layers):
        if not shape.recurrent[layer]:
            continue
        backend = placement.backends[layer]
        for width in (shape.r_width, shape.s_width):
            sums[backend] += pad(4 * width * settings.parallel, backends[backend].alignment)
    return tuple(sums)
