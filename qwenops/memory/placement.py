"""Which layer goes to which device: from the back, split by free memory, the embedding always on the host.

As in llama_model::load_tensors (src/llama-model.cpp, llama.cpp b10434).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from struct import pack, unpack

from qwenops.machine.types import Device


@dataclass(frozen=True)
class Placement:
    """The backend number of every block and, last, of the output; the CPU has the number of devices.

    `host_experts` are blocks whose experts stay on the host although the block is on a device. `overflow` is one of
    them of which something else stays there: the block, and how the names of those tensors begin.
    """

    backends: tuple[int, ...]
    cpu: int
    host_experts: frozenset[int] = frozenset()
    overflow: tuple[int, tuple[str, ...]] | None = None

    @property
    def on_device(self) -> int:
        """Layers on devices, the output counted as one."""
        return sum(1 for b in self.backends if b != self.cpu)

    @property
    def full(self) -> bool:
        """Whether every layer is on a device."""
        return self.on_device == len(self.backends)


def place(
    layers: int,
    gpu_layers: int,
    devices: Sequence[Device],
    *,
    shares: Sequence[int] | None = None,
    host_experts: frozenset[int] = frozenset(),
) -> Placement:
    """Place `layers` blocks and the output; `shares` replaces free memory as the measure of the split."""
    cpu, total = len(devices), layers + 1
    on_device = min(max(gpu_layers, 0), total) if devices else 0
    start = total - on_device
    ends = _split_points(shares or [d.free_bytes for d in devices])
    backends = [cpu] * start
    for i in range(on_device):
        backends.append(min(bisect_right(ends, _single(i / on_device)), cpu - 1))
    return Placement(tuple(backends), cpu, host_experts)


def _split_points(shares: Sequence[int]) -> list[float]:
    sums, total = [], 0.0
    for share in shares:
        total = _single(total + _single(float(share)))
        sums.append(total)
    if not total:
        return [(i + 1) / len(shares) for i in range(len(shares))]
    return [_single(s / total) for s in sums]


def _single(x: float) -> float:
    """The runtime computes the split in single precision; ties fall the same way only if we do too."""
    (y,) = unpack("f", pack("f", x))
    return float(y)
