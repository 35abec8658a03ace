"""What the devices do at this moment, cheap enough to be read ten times a second.

Nothing here raises: what a driver or a kernel does not say is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from qwenops.machine.kernel_files import read_number

# nvml.h: nvmlClocksEventReasons. What holds clocks back beyond the card's own power limit and idling.
THROTTLE_REASONS: Mapping[int, str] = {
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
POWER_CAP = 0x4


@dataclass(frozen=True)
class Reading:
    """One look at a device. Energy counts up from the driver's start, power is at this moment; None is unknown.

    `own_bytes` is what the processes that were asked about hold.
    """

    used_bytes: int | None = None
    own_bytes: int | None = None
    energy_j: float | None = None
    power_w: float | None = None
    clock_mhz: int | None = None
    temperature_c: float | None = None
    throttled: tuple[str, ...] = ()
    power_capped: bool = False


class Meter(Protocol):
    """A device that can be read."""

    name: str

    def read(self, pids: frozenset[int] = frozenset()) -> Reading:
        """A look at it now."""
        ...


def device_meters(root: Path = Path("/")) -> list[Meter]:
    """A meter for each NVIDIA and AMD device, in the order and by the names of `detect`."""
    return [*_nvidia(), *_amd(root)]


class NvidiaMeter:
    """A card by NVML, which was opened once: opening it takes longer than asking."""

    def __init__(self, nvml: Any, handle: Any, name: str) -> None:
        self._nvml, self._handle, self.name = nvml, handle, name
        self._silent: set[str] = set()

    def read(self, pids: frozenset[int] = frozenset()) -> Reading:
        """Memory, energy, clock, temperature and what holds it back."""
        nvml = self._nvml
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        energy = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        power = self._ask("nvmlDeviceGetPowerUsage")
        reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        return Reading(
            used_bytes=None if memory is None else int(memory.used),
            own_bytes=self._own(pids) if pids else None,
            energy_j=None if energy is None else energy / 1000,
            power_w=None if power is None else power / 1000,
            clock_mhz=self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            temperature_c=self._ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            throttled=tuple(word for bit, word in THROTTLE_REASONS.items() if reasons & bit),
            power_capped=bool(reasons & POWER_CAP),
        )

    def _own(self, pids: frozenset[int]) -> int | None:
        found = self._ask("nvmlDeviceGetComputeRunningProcesses")
        amounts = [one.usedGpuMemory for one in found or () if one.pid in pids]
        return sum(amounts) if amounts and None not in amounts else None

    def _ask(self, function: str, *args: Any) -> Any:
        if function in self._silent:
            return None
        try:
            return getattr(self._nvml, function)(self._handle, *args)
        except (self._nvml.NVMLError, AttributeError):
            self._silent.add(function)
            return None


class AmdMeter:
    """A card by the amdgpu driver's files (Linux, Documentation/gpu/amdgpu: driver-misc and thermal)."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self.name = folder, name
        self._sensors = next(iter(sorted((folder / "hwmon").glob("hwmon*"))), folder)

    def read(self, pids: frozenset[int] = frozenset()) -> Reading:
        """Memory, power, clock and temperature; the driver has no energy counter and no word for throttling."""
        power = read_number(self._sensors / "power1_average") or read_number(self._sensors / "power1_input")
        clock, heat = read_number(self._sensors / "freq1_input"), read_number(self._sensors / "temp1_input")
        return Reading(
            used_bytes=read_number(self._folder / "mem_info_vram_used"),
            power_w=None if power is None else power / 1e6,
            clock_mhz=None if clock is None else clock // 1_000_000,
            temperature_c=None if heat is None else heat / 1000,
        )


def _nvidia() -> list[Meter]:
    import pynvml

    def pci_place(handle: Any) -> tuple[int, ...]:
        try:
            pci = pynvml.nvmlDeviceGetPciInfo(handle)
        except pynvml.NVMLError:
            return (1,)
        return (0, int(pci.domain), int(pci.bus), int(pci.device))

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []
    return [NvidiaMeter(pynvml, one, f"CUDA{i}") for i, one in enumerate(sorted(handles, key=pci_place))]


def _amd(root: Path) -> list[Meter]:
    from qwenops.machine.amd import card_folders

    folders = [one for one in card_folders(root) if read_number(one / "mem_info_vram_total") is not None]
    return [AmdMeter(folder, f"ROCm{i}") for i, folder in enumerate(folders)]
