"""What a load takes on a device outside every buffer: the driver's context, its kernels and its pools.

Learned where it can be: a load's overhead is what the device holds after it, less before, less the buffers of the
log, by the driver's own count. The median of at least three undisturbed loads of the same device, driver and runtime
replaces the stated default, and their spread goes into the band.

The runtime reads free memory after its context exists, a monitor (NVML, sysfs) or a data sheet before: only then does
the context come on top. Beside a free figure of the runtime's only what came after the context is added: what the
device lost from there on, beyond the buffers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from qwenops.machine.types import Device, Kind
from qwenops.memory.backends import backend_of
from qwenops.units import MIB

# CUDA: 451 to 456 MiB unaccounted for on each RTX 4090 in the sample that came with llama.cpp's memory breakdown.
# Vulkan: 27 to 32 MiB more than the buffers by nvidia-smi after three public loads (RTX 3060 laptop, RTX 3090).
# Metal's figure is a budget of the host's memory; nothing outside buffers is counted against it.
DEFAULT_BYTES: Final[dict[Kind, int]] = {
    "cuda": 456 * MIB,
    "rocm": 456 * MIB,
    "vulkan": 32 * MIB,
    "metal": 0,
    "cpu": 0,
}
FEWEST_LOADS: Final = 3
"""One odd load among three does not move their median."""
RECENT_LOADS: Final = 30
# The log rounds each buffer to a hundredth of a MiB: an overhead that is smaller than that may come out below zero.
_ROUNDING_BYTES: Final = MIB


def overhead_bytes(device: Device) -> int:
    """The stated default: bytes to add to the buffers of a device before they are compared with its free memory."""
    if device.source == "runtime" or backend_of(device).software:
        return 0
    return DEFAULT_BYTES[device.kind]


@dataclass(frozen=True)
class UsageSeen:
    """What one undisturbed load took from one device outside its buffers, in bytes, and on what.

    `beyond_bytes` is what came after the context, None where the runtime's free figure does not show the context.
    """

    uuid: str | None
    description: str
    kind: Kind
    driver: str | None
    build: str
    overhead_bytes: int
    beyond_bytes: int | None = None

    @property
    def key(self) -> tuple[str, Kind, str | None, str]:
        """Device, kind, driver and runtime: what a figure is good for."""
        return (self.uuid or self.description, self.kind, self.driver, self.build)


@dataclass(frozen=True)
class Spread:
    """Figures of several loads: the median (the upper one of an even count), the edges, how many."""

    low_bytes: int
    median_bytes: int
    high_bytes: int
    loads: int


@dataclass(frozen=True)
class LearnedOverhead:
    """What the loads of one device, driver and runtime say: `whole`, and `beyond` the context where that was seen."""

    uuid: str | None
    description: str
    kind: Kind
    driver: str | None
    build: str
    whole: Spread
    beyond: Spread | None


@dataclass(frozen=True)
class Overhead:
    """What to add for one device, between which edges, and who says so: "learned (n loads)" or "default"."""

    size_bytes: int
    low_bytes: int
    high_bytes: int
    source: str


def usage_seen(usage: Iterable[Any], build: str) -> tuple[UsageSeen, ...]:
    """The figures to learn from among a load's usage entries; what was disturbed or cannot be is left out.

    An entry holds used_before_bytes, used_after_bytes and buffers_bytes of a device, free_before_bytes by the driver
    and runtime_free_bytes by the runtime's log, and `disturbed` with the reason why it says nothing of this load.
    """
    found = []
    for entry in usage:
        try:
            over = entry["used_after_bytes"] - entry["used_before_bytes"] - entry["buffers_bytes"]
            if entry["disturbed"] or entry["buffers_bytes"] <= 0 or over < -_ROUNDING_BYTES:
                continue
            over = max(0, over)
            found.append(
                UsageSeen(
                    uuid=entry["uuid"],
                    description=entry["description"],
                    kind=entry["kind"],
                    driver=entry["driver"],
                    build=build,
                    overhead_bytes=over,
                    beyond_bytes=_beyond(over, entry["free_before_bytes"], entry["runtime_free_bytes"]),
                )
            )
        except (KeyError, TypeError):
            continue
    return tuple(found)


def _beyond(over: int, driver_free: int, runtime_free: int | None) -> int | None:
    """The overhead without the context: by so much less was free for the runtime, once it had one."""
    if runtime_free is None:
        return None
    context = driver_free - runtime_free
    if not -_ROUNDING_BYTES <= context <= over + _ROUNDING_BYTES:
        return None  # the runtime counts by other rules (a budget): the two figures have nothing to do with each other
    return max(0, over - max(0, context))


def learn_overheads(seen: Sequence[UsageSeen]) -> tuple[LearnedOverhead, ...]:
    """The newest loads of each device, driver and runtime, as median and edges. `seen` is in order of time."""
    groups: dict[tuple[str, Kind, str | None, str], list[UsageSeen]] = {}
    for one in seen:
        groups.setdefault(one.key, []).append(one)
    return tuple(_learned(group[-RECENT_LOADS:]) for group in groups.values())


def _learned(group: Sequence[UsageSeen]) -> LearnedOverhead:
    last = group[-1]
    beyond = [one.beyond_bytes for one in group if one.beyond_bytes is not None]
    return LearnedOverhead(
        uuid=last.uuid,
        description=last.description,
        kind=last.kind,
        driver=last.driver,
        build=last.build,
        whole=_spread([one.overhead_bytes for one in group]),
        beyond=_spread(beyond) if beyond else None,
    )


def _spread(figures: Sequence[int]) -> Spread:
    ordered = sorted(figures)
    return Spread(ordered[0], ordered[len(ordered) // 2], ordered[-1], len(ordered))


def overhead_of(device: Device, learned: Sequence[LearnedOverhead] = ()) -> Overhead:
    """What to add for a device: learned where enough loads of it under its present driver say so, else the default.

    Hardware that is described and not here, and a GPU that is really the CPU, have the default.
    """
    stated = overhead_bytes(device)
    default = Overhead(stated, stated, stated, "default")
    if device.source == "--gpu" or backend_of(device).software:
        return default
    known = [one for one in learned if is_of(one, device) and one.driver == device.driver]
    spreads = [one.beyond if device.source == "runtime" else one.whole for one in known]
    enough = [s for s in spreads if s is not None and s.loads >= FEWEST_LOADS]
    if not enough:
        return default
    best = max(enough, key=lambda s: s.loads)
    return Overhead(best.median_bytes, best.low_bytes, best.high_bytes, f"learned ({best.loads} loads)")


def is_of(one: LearnedOverhead | UsageSeen, device: Device) -> bool:
    """Whether a figure was seen on this device: by UUID where both are known, else by its name."""
    if one.kind != device.kind:
        return False
    if one.uuid and device.uuid:
        return one.uuid == device.uuid
    return one.description == device.description
