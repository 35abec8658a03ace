"""How far the closed form may be off: one rule, in one place.

Where the runtime's graph is replayed the sum of buffers is held to 3 % (2 MiB where that is more) above, and is never
short by more than 1 % (1 MiB). The replay was held against the Vulkan backend by running it and against CUDA and Metal
by public logs; ROCm shares CUDA's code. An architecture or projector that is not replayed has exact weights and cache
but a guessed compute buffer: 10 % below, 20 % above, and 64 MiB at least.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwenops.machine.types import Device
from qwenops.memory.encoder import KNOWN_KINDS
from qwenops.memory.graphs import KNOWN
from qwenops.memory.types import Band
from qwenops.model.types import Projector
from qwenops.units import MIB


def band_of(total_bytes: int, architecture: str, projector: Projector | None, devices: Sequence[Device]) -> Band:
    """The edges, in bytes, between which the total over `devices` lies."""
    if not devices:
        return Band(0, 0)
    replayed = architecture in KNOWN and (projector is None or projector.kind in KNOWN_KINDS)
    if replayed:
        return Band(_below(total_bytes, 3, 2), total_bytes + _part(total_bytes, 1, 1))
    return Band(_below(total_bytes, 10, 64), total_bytes + _part(total_bytes, 20, 64))


def _below(total: int, percent: int, least_mib: int) -> int:
    return max(0, total - _part(total, percent, least_mib))


def _part(total: int, percent: int, least_mib: int) -> int:
    return max(total * percent // 100, least_mib * MIB)
