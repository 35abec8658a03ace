"""NVIDIA devices by NVML: what they hold, who holds it, and a plain word where NVML cannot say.

Every call goes through one gate, `_Nvml`, which starts the library on first use, turns "not supported" and missing
symbols into a default, and everything else that is broken into a note. Nothing here raises.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwenops.machine.types import Device, Host, Process

# Places where the driver's library lies without the loader knowing: WSL, NixOS.
_ELSEWHERE = ("usr/lib/wsl/lib/libnvidia-ml.so.1", "run/opengl-driver/lib/libnvidia-ml.so.1")
_NVIDIA_VENDOR = "0x10de"
_DISPLAY_CLASS = "0x03"


def read_nvidia(host: Host, root: Path = Path("/")) -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """(devices in PCI order, notes) of this machine's NVIDIA cards.

    A card with MIG on is given as its MIG devices. Where NVML says that memory is not supported, or that its total
    is 0, the memory is the host's (GB10, Jetson): total is the host's, free is what the host has available.
    Memory is asked by nvmlDeviceGetMemoryInfo_v2, whose `used` leaves the driver's own reserve out (NVML API
    reference, nvmlMemory_v2_t). CUDA_VISIBLE_DEVICES is not looked at: it belongs to the runtime.
    """
    nvml = _Nvml(root)
    if not nvml.start():
        return (), tuple(nvml.notes)
    try:
        devices = _devices(nvml, host)
    finally:
        nvml.stop()
    return tuple(devices), tuple(nvml.notes)


@dataclass
class _Nvml:
    """The one gate to NVML."""

    root: Path
    notes: list[str] = field(default_factory=list)
    _missing: set[str] = field(default_factory=set)

    def start(self) -> bool:
        """Load and start the library; a note says why when it exists but cannot be used."""
        pynvml = _pynvml()

        error = self._try_init(pynvml)
        if error == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND and self._load_from_elsewhere():
            error = self._try_init(pynvml)
        if error is None:
            return True
        note = self._why_no_nvml(error)
        if note:
            self.notes.append(note)
        return False

    def stop(self) -> None:
        """Give the library back; a failure to do so harms nobody."""
        pynvml = _pynvml()

        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            return

    def ask(self, function: str, *args: Any, default: Any = None, what: str = "") -> Any:
        """Call one NVML function.

        Not supported or missing in this library gives `default`. Any other failure gives `default` and, when `what`
        says what was wanted, one note with the cause.
        """
        pynvml = _pynvml()

        call = getattr(pynvml, function, None)  # an older binding may lack it
        if call is None or function in self._missing:
            return default
        try:
            return call(*args)
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_FUNCTION_NOT_FOUND:
                self._missing.add(function)
            elif what and error.value not in (
                pynvml.NVML_ERROR_NOT_SUPPORTED,
                pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
            ):
                self.note(f"{what}: {_cause(error.value)}")
        except UnicodeDecodeError:
            pass  # a name that is not text is no name
        return default

    def memory(self, handle: Any) -> tuple[str, Any]:
        """("ok", info) | ("unified", None) | ("failed", cause): the v2 call first, then the one of older drivers."""
        pynvml = _pynvml()
        cannot_say = (
            pynvml.NVML_ERROR_NOT_SUPPORTED,
            pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        )
        failure: int | None = None
        for version in (pynvml.nvmlMemory_v2, None):
            try:
                info = pynvml.nvmlDeviceGetMemoryInfo(handle, version=version)
            except pynvml.NVMLError as error:
                if error.value not in cannot_say:
                    failure = error.value
                continue
            return ("ok", info) if info.total else ("unified", None)
        return ("unified", None) if failure is None else ("failed", _cause(failure))

    def note(self, text: str) -> None:
        """Keep a note once."""
        if text not in self.notes:
            self.notes.append(text)

    @staticmethod
    def _try_init(pynvml: Any) -> int | None:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            return int(error.value)
        return None

    def _load_from_elsewhere(self) -> bool:
        """Load the library by its full path, after which the loader finds it by its soname."""
        import ctypes

        for place in _ELSEWHERE:
            path = self.root / place
            if path.exists():
                try:
                    ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
                except OSError as error:
                    self.note(f"{path} could not be loaded: {error}")
                    continue
                return True
        return False

    def _why_no_nvml(self, error: int) -> str | None:
        """The note for an NVML that did not start; None on a machine without an NVIDIA card."""
        pynvml = _pynvml()

        has_card = _card_on_the_bus(self.root)
        kernel_driver = _kernel_driver_version(self.root)
        if error == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            if kernel_driver:
                return (
                    f"the NVIDIA driver {kernel_driver} is loaded but libnvidia-ml.so.1 is not in reach: "
                    "in a container start it with --gpus all, else install the driver's user libraries"
                )
            if has_card:
                return "an NVIDIA card is here but its driver is not: install the NVIDIA driver, then restart"
            return None
        if error == pynvml.NVML_ERROR_DRIVER_NOT_LOADED:
            if not has_card and not kernel_driver:
                return None  # the library came with a package; there is no card to miss
            return "the NVIDIA driver is installed but not loaded: sudo modprobe nvidia, or restart the machine"
        if error == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
            loaded = f" ({kernel_driver} is loaded)" if kernel_driver else ""
            return (
                f"the NVIDIA driver was updated but the old one is still loaded{loaded}: restart the machine "
                "before any GPU can be used"
            )
        return f"NVML did not start: {_cause(error)}"


def _pynvml() -> Any:
    """NVIDIA's own binding, imported when first needed."""
    import importlib

    return importlib.import_module("pynvml")


def _devices(nvml: _Nvml, host: Host) -> list[Device]:
    driver = nvml.ask("nvmlSystemGetDriverVersion")
    found: list[tuple[tuple[int, ...], int, Any]] = []
    count = nvml.ask("nvmlDeviceGetCount", what="NVIDIA cards could not be counted")
    if count is None and not nvml.notes:
        nvml.note(f"the NVIDIA driver {driver or ''} is too old to count its cards: update it".replace("  ", " "))
    for number in range(count or 0):
        handle = nvml.ask("nvmlDeviceGetHandleByIndex", number, what=f"NVIDIA card {number} is left out")
        if handle is not None:
            found.append((_pci_place(nvml, handle), number, handle))
    found.sort(key=lambda card: card[:2])

    devices: list[Device] = []
    for _, number, handle in found:
        parts = _mig_parts(nvml, handle, number)
        for part in [handle] if parts is None else parts:
            device = _device(nvml, part, handle, number, len(devices), host, driver, mig=parts is not None)
            if device is not None:
                devices.append(device)
    return devices


def _device(
    nvml: _Nvml, part: Any, card: Any, number: int, index: int, host: Host, driver: str | None, *, mig: bool
) -> Device | None:
    """One device: a card, or the MIG device `part` of a card; None with a note when its memory cannot be read."""
    name = nvml.ask("nvmlDeviceGetName", part) or nvml.ask("nvmlDeviceGetName", card, default="NVIDIA GPU")
    state, info = nvml.memory(part)
    if state == "failed":
        nvml.note(f"NVIDIA card {number} ({name}) is left out: {info}")
        return None
    if state == "unified" and mig:
        nvml.note(f"MIG device {name} is left out: the driver does not say how much memory it has")
        return None
    unified = state == "unified"
    pci = nvml.ask("nvmlDeviceGetPciInfo", card)
    return Device(
        name=f"CUDA{index}",
        kind="cuda",
        description=str(name),
        total_bytes=host.total_bytes if unified else int(info.total),
        free_bytes=host.available_bytes if unified else min(int(info.free), int(info.total)),
        index=index,
        unified=unified,
        integrated=unified,
        source="nvml",
        driver=driver,
        compute_capability=nvml.ask("nvmlDeviceGetCudaComputeCapability", card),
        pci_bus_id=_bus_id(pci),
        uuid=nvml.ask("nvmlDeviceGetUUID", part),
        mig=mig,
        processes=_processes(nvml, part, number),
        reserved_bytes=0 if unified else int(getattr(info, "reserved", 0)),
    )


def _mig_parts(nvml: _Nvml, handle: Any, number: int) -> list[Any] | None:
    """The MIG devices of a card that has MIG on, else None. An empty list means: on, but nothing was cut yet."""
    pynvml = _pynvml()

    mode = nvml.ask("nvmlDeviceGetMigMode", handle)
    if not mode or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
        return None
    slots = nvml.ask("nvmlDeviceGetMaxMigDeviceCount", handle, default=0)
    parts = [nvml.ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, slot) for slot in range(slots)]
    parts = [part for part in parts if part is not None]
    if not parts:
        nvml.note(
            f"NVIDIA card {number} has MIG on but no MIG device: sudo nvidia-smi mig -i {number} -lgip lists the "
            f"sizes to cut, sudo nvidia-smi -i {number} -mig 0 switches MIG off"
        )
    elif len(parts) > 1:
        nvml.note(
            f"NVIDIA card {number} is cut into {len(parts)} MIG devices; CUDA gives a process one of them: the "
            "first, or the one whose UUID CUDA_VISIBLE_DEVICES names"
        )
    return parts


def _processes(nvml: _Nvml, part: Any, number: int) -> tuple[Process, ...]:
    """Everyone who holds memory here; a process with a compute and a graphics context is named once."""
    used: dict[int, int | None] = {}
    for context in ("Compute", "Graphics", "MPSCompute"):
        for entry in _running(nvml, part, context, number):
            known = used.get(entry.pid)
            amounts = [n for n in (known, entry.usedGpuMemory) if n is not None]
            used[entry.pid] = max(amounts) if amounts else None
    return tuple(Process(pid, _process_name(nvml, pid), used[pid]) for pid in sorted(used))


def _running(nvml: _Nvml, part: Any, context: str, number: int) -> list[Any]:
    """The processes of one kind of context, by the newest call that the driver has."""
    what = f"who uses NVIDIA card {number} could not be read"
    for version in ("_v3", "_v2"):
        answer = nvml.ask(f"nvmlDeviceGet{context}RunningProcesses{version}", part, what=what)
        if answer is not None:
            return list(answer)
    return []


def _process_name(nvml: _Nvml, pid: int) -> str:
    """The program's name; a process of another container or user may be out of sight."""
    import psutil

    try:
        return str(psutil.Process(pid).name())
    except psutil.Error:
        pass
    path = nvml.ask("nvmlSystemGetProcessName", pid)
    return str(path).replace("\\", "/").rsplit("/", 1)[-1] if path else "out of sight"


def _pci_place(nvml: _Nvml, handle: Any) -> tuple[int, ...]:
    """Sort key: PCI domain, bus, device; cards that do not say come last, in NVML's own order."""
    pci = nvml.ask("nvmlDeviceGetPciInfo", handle)
    return (1,) if pci is None else (0, int(pci.domain), int(pci.bus), int(pci.device))


def _bus_id(pci: Any) -> str | None:
    """'0000:01:00.0', as sysfs, llama.cpp and Ollama write it (NVML pads the domain to eight digits)."""
    if pci is None:
        return None
    return f"{int(pci.domain):04x}:{int(pci.bus):02x}:{int(pci.device):02x}.0"


def _cause(error: int) -> str:
    """What an NVML error means here, and the mend."""
    pynvml = _pynvml()

    known = {
        pynvml.NVML_ERROR_NO_PERMISSION: "no permission: join the group that owns /dev/nvidia*, or use sudo",
        pynvml.NVML_ERROR_GPU_IS_LOST: "the card fell off the bus: see sudo dmesg | grep -i xid, then restart",
        pynvml.NVML_ERROR_RESET_REQUIRED: "it must be reset: stop its processes, then sudo nvidia-smi --gpu-reset",
        pynvml.NVML_ERROR_IRQ_ISSUE: "its interrupts do not arrive: reseat the card",
        pynvml.NVML_ERROR_INSUFFICIENT_POWER: "its power cables are not attached: attach them",
        pynvml.NVML_ERROR_TIMEOUT: "the driver did not answer in time: see sudo dmesg | grep -i nvrm",
    }
    if error in known:
        return known[error]
    try:
        text = pynvml.nvmlErrorString(error)
        text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    except (pynvml.NVMLError, AttributeError):
        text = str(pynvml.NVMLError(error))
    return f"{text} (NVML error {error}): nvidia-smi says more"


def _card_on_the_bus(root: Path) -> bool:
    """Whether the PCI bus has an NVIDIA display device, driver or not."""
    for device in (root / "sys/bus/pci/devices").glob("*"):
        try:
            vendor = (device / "vendor").read_text(encoding="ascii").strip()
            kind = (device / "class").read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if vendor == _NVIDIA_VENDOR and kind.startswith(_DISPLAY_CLASS):
            return True
    return False


def _kernel_driver_version(root: Path) -> str | None:
    """The version of the NVIDIA driver that the kernel has loaded."""
    import re

    try:
        text = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r"Kernel Module\D*?([0-9]+\.[0-9]+(?:\.[0-9]+)?)", text)
    return match.group(1) if match else "(version unknown)"
