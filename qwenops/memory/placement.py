"""Which layer goes to which device: from the back, split by free memory, the embedding always on the host.

As in llama_model::load_tensors (src/llama-model.cpp, llama.cpp b10434).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from struct import pack, unpack

from qwenops.machine.types import Device
from qwenops.memory.types import LoadSettings


@dataclass(frozen=True)
class Overflow:
    """A block of which some tensors go to another backend than the block's; `prefixes` is how their names begin."""

    block: int
    prefixes: tuple[str, ...]
    backend: int


@dataclass(frozen=True)
class Placement:
    """The backend number of every block and, last, of the output; the CPU has the number of devices.

    `host_experts` are blocks whose experts stay on the host although the block is on a device. `overflows` are blocks
    of which something else goes elsewhere, to the host or the next device. `draft_head` is whether the blocks of a
    draft head are loaded.
    """

    backends: tuple[int, ...]
    cpu: int
    host_experts: frozenset[int] = frozenset()
    overflows: tuple[Overflow, ...] = ()
    draft_head: bool = False

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
    shares: Sequence[float] | None = None,
    host_experts: frozenset[int] = frozenset(),
) -> Placement:
    """Place `layers` blocks and the output; `shares` replaces free memory as the measure of the split."""
    cpu, total = len(devices), layers + 1
    on_device = min(max(gpu_layers, 0), total) if devices else 0
    start = total - on_device
    if cpu == 1:
        return Placement((cpu,) * start + (0,) * on_device, cpu, host_experts)
    ends = _split_points(_shares(shares, cpu) or [d.free_bytes for d in devices])
    backends = [cpu] * start
    for i in range(on_device):
        backends.append(min(bisect_right(ends, _single(i / on_device)), cpu - 1))
    return Placement(tuple(backends), cpu, host_experts)


def placed_as_asked(layers: int, settings: LoadSettings, devices: Sequence[Device]) -> Placement | None:
    """Where the settings alone decide; None where the runtime's fit chooses.

    It chooses only where nothing was chosen for it: experts kept on the host and shares of several devices end it,
    and then every layer is placed (common_params_fit_impl, common/fit.cpp).
    """
    total = layers + 1
    asked = settings.gpu_layers
    chosen = bool(settings.n_cpu_moe) or bool(_shares(settings.tensor_split, len(devices)) and len(devices) > 1)
    if asked == "auto" and devices and not chosen:
        return None
    on_device = asked if isinstance(asked, int) else total if devices else 0
    return place(
        layers,
        on_device,
        devices,
        shares=settings.tensor_split,
        host_experts=experts_on_host(layers, settings) if devices else frozenset(),
    )


def experts_on_host(layers: int, settings: LoadSettings) -> frozenset[int]:
    """The blocks whose experts were asked to stay on the host."""
    blocks = layers if settings.n_cpu_moe == "all" else min(settings.n_cpu_moe, layers)
    return frozenset(range(blocks))


def _shares(shares: Sequence[float] | None, devices: int) -> list[float]:
    """One share a device: what is missing is 0, what is too many is not looked at; only zeros are none."""
    given = [*(shares or ())][:devices]
    return [*given, *[0.0] * (devices - len(given))] if any(given) else []


def _split_points(shares: Sequence[float]) -> list[float]:
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
