"""Value types of the machine: what is there, before anyone says what should run on it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["cuda", "rocm", "vulkan", "metal", "cpu"]


@dataclass(frozen=True)
class Process:
    """A process that holds device memory; `used_bytes` is None where the driver will not say."""

    pid: int
    name: str
    used_bytes: int | None


@dataclass(frozen=True)
class Device:
    """One accelerator, in PCI order.

    `name` is the runtime's word ("CUDA0", "Vulkan0"), `description` the maker's ("NVIDIA GeForce RTX 3060").
    Sizes in bytes. `unified` means the memory is the host's. `source` says who gave the figures: "nvml", "sysfs",
    "wired limit", "runtime" or "--gpu". `reserved_bytes` is what the driver keeps for itself: nobody can have it.
    """

    name: str
    kind: Kind
    description: str
    total_bytes: int
    free_bytes: int
    index: int = 0
    unified: bool = False
    integrated: bool = False
    source: str = "nvml"
    driver: str | None = None
    compute_capability: tuple[int, int] | None = None
    pci_bus_id: str | None = None
    uuid: str | None = None
    mig: bool = False
    processes: tuple[Process, ...] = ()
    reserved_bytes: int = 0

    @property
    def used_bytes(self) -> int:
        """Memory in use by anyone, in bytes, without what the driver reserves."""
        return max(0, self.total_bytes - self.free_bytes - self.reserved_bytes)


@dataclass(frozen=True)
class Host:
    """The computer around the devices; a cgroup limit counts as the total where it is the smaller one."""

    total_bytes: int
    available_bytes: int
    physical_cores: int
    logical_cores: int
    os: str
    arch: str
    cgroup_limit_bytes: int | None = None


@dataclass(frozen=True)
class Machine:
    """Devices and host; `hypothetical` when `--gpu` described hardware that is not here."""

    devices: tuple[Device, ...]
    host: Host
    notes: tuple[str, ...] = ()
    hypothetical: bool = False

    def as_data(self) -> dict[str, Any]:
        """Devices and host as plain JSON values, as results keep them in the history."""
        return {"devices": [asdict(d) for d in self.devices], "host": asdict(self.host)}
