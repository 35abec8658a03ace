"""Which quant and way of running for one card: the largest quant that need not be streamed, the fastest way of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from qwenops.image.memory import Job, Need, Way, every_way, need
from qwenops.image.parts import Part, Role
from qwenops.machine.types import Device, Machine
from qwenops.memory.backends import Backend, backend_of, encoder_host_backend
from qwenops.memory.overhead import overhead_bytes
from qwenops.units import GIB, MIB

HEADROOM_BYTES: Final = 64 * MIB
HOST_SHARE: Final = 0.9
"""A tenth of the host's memory is left alone, as everywhere in qwenops."""

_WITHOUT_STREAMING: Final = ("device", "offload")


@dataclass(frozen=True)
class Room:
    """What there is: on the device that is used, and in RAM, in bytes."""

    device: Device | None
    device_bytes: int
    host_bytes: int

    @property
    def backend(self) -> Backend | None:
        """The device's backend."""
        return None if self.device is None else backend_of(self.device)


@dataclass(frozen=True)
class Option:
    """One quant run one way, and whether there is room for it."""

    quant: str
    need: Need
    fits_device: bool
    fits_host: bool

    @property
    def fits(self) -> bool:
        """Whether there is room on the device and in RAM."""
        return self.fits_device and self.fits_host


@dataclass(frozen=True)
class ImagePlan:
    """All options of all quants, and the one to take; None where nothing fits."""

    options: tuple[Option, ...]
    best: Option | None


def room_of(machine: Machine, headroom_bytes: int = HEADROOM_BYTES) -> Room:
    """What the first device and the host have to give; stable-diffusion.cpp runs a model on one device."""
    host = int(machine.host.available_bytes * HOST_SHARE)
    if not machine.devices:
        return Room(None, 0, host)
    device = machine.devices[0]
    return Room(device, max(0, device.free_bytes - overhead_bytes(device) - headroom_bytes), host)


def budget_gib(room: Room) -> float:
    """What sd-cli is told as --max-vram: all the room there is, in GiB, a tenth of one rounded down."""
    return int(room.device_bytes / GIB * 10) / 10


def make_plan(quants: Sequence[Part], others: Mapping[Role, Part], job: Job, room: Room) -> ImagePlan:
    """Every quant in every way, and the choice among them."""
    options = tuple(
        _option(part, {**others, "diffusion": part}, job, way, room)
        for part in quants
        for way in every_way(has_device=room.device is not None)
    )
    return ImagePlan(options, _best(options, {part.quant: part.file_bytes for part in quants}))


def best_of(options: Sequence[Option]) -> Option | None:
    """The fastest way of one quant that fits; they come in that order."""
    return next((option for option in options if option.fits), None)


def _option(part: Part, parts: Mapping[Role, Part], job: Job, way: Way, room: Room) -> Option:
    asked = need(parts, job, way, room.backend, encoder_host_backend())
    return Option(part.quant, asked, asked.device_bytes <= room.device_bytes, asked.host_bytes <= room.host_bytes)


def _best(options: Sequence[Option], sizes: Mapping[str, int]) -> Option | None:
    """What need not be streamed before what must, a larger quant before a smaller, a faster way before a slower."""
    fitting = [option for option in options if option.fits]
    whole = [option for option in fitting if option.need.way.placement in _WITHOUT_STREAMING]
    streamed = [option for option in fitting if option.need.way.placement == "stream"]
    among = whole or streamed or fitting
    return min(among, key=lambda option: -sizes[option.quant], default=None)
