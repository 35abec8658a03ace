"""The recurrent state of hybrid and recurrent models: constant per sequence, always float.

llama_memory_recurrent (src/llama-memory-recurrent.cpp, llama.cpp b10434).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import compress

from qwenops.memory.backends import Backend
from qwenops.memory.placement import Placement
from qwenops.memory.shape import Shape
from qwenops.memory.types import LoadSettings
from qwenops.units import pad


def state_bytes(
    shape: Shape, settings: LoadSettings, placement: Placement, backends: Sequence[Backend]
) -> tuple[int, ...]:
    """State bytes by backend: what each recurrent block remembers of the last tokens, and its state matrix."""
    if not any(shape.recurrent):
        return (0,) * len(backends)
    of_block = [
        sum(pad(4 * width * settings.parallel, backend.alignment) for width in (shape.r_width, shape.s_width))
        for backend in backends
    ]
    blocks = Counter(compress(placement.backends, shape.recurrent[: shape.trunk_layers]))
    return tuple(blocks[number] * size for number, size in enumerate(of_block))
