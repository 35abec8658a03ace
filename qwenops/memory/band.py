"""How far the closed form may be off: one rule, in one place.

For an architecture whose graph is replayed, the sum of buffers is held to 3 % (2 MiB where that is more), and it is
never short by more than 1 % (1 MiB). An architecture that is not replayed has exact weights and cache but a guessed
compute buffer: 10 % below, 20 % above.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwenops.machine.types import Device
from qwenops.memory.text_graph import KNOWN
from qwenops.memory.types import Band
from qwenops.units import MIB


def band_of(total_bytes: int, architecture: str, devices: Sequence[Device]) -> Band:
    """The edges between which the device total lies."""
    if architecture in KNOWN:
        return Band(total_bytes - _margin(total_bytes, 3, 2), total_bytes + _margin(total_bytes, 1, 1))
    return Band(total_bytes - _margin(total_bytes, 10, 16), total_bytes + _margin(total_bytes, 20, 64))


def _margin(total: int, percent: int, least_mib: int) -> int:
    return max(total * percent // 100, least_mib * MIB) if total else 0
