"""AMD devices by sysfs: the amdgpu driver's own figures, before any runtime is there to ask."""

from __future__ import annotations

import re
from pathlib import Path

from qwenops.machine.kernel_files import read_text
from qwenops.machine.types import Device, Host
from qwenops.units import GIB

_AMD_VENDOR = "0x1002"
_LARGEST_CARVE_OUT = 16 * GIB
_CARD = re.compile(r"^card[0-9]+$")


def read_amd(host: Host, root: Path = Path("/")) -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """(devices in PCI order, notes) of this machine's AMD GPUs.

    Memory comes from mem_info_vram_total and _used (Linux, Documentation/gpu/amdgpu/driver-misc.rst). A GPU inside
    the processor has a small carve-out and reaches the host's memory through the GTT: both count, and what is free
    of the GTT is never more than the host has available. The gfx name comes from the KFD topology.
    """
    devices: list[Device] = []
    notes: list[str] = []
    topology = _kfd_nodes(root)
    for folder in card_folders(root):
        total = _number(folder / "mem_info_vram_total")
        if total is None:
            notes.append(
                f"an AMD GPU ({_bus_id(folder)}) is here but the amdgpu driver does not serve it: sudo modprobe amdgpu"
            )
            continue
        free = max(0, total - (_number(folder / "mem_info_vram_used") or 0))
        node = topology.get(_bus_id(folder), {})
        integrated = _is_integrated(folder, node, total)
        if integrated:
            gtt = _number(folder / "mem_info_gtt_total") or 0
            gtt_free = max(0, gtt - (_number(folder / "mem_info_gtt_used") or 0))
            total, free = total + gtt, free + min(gtt_free, host.available_bytes)
        index = len(devices)
        devices.append(
            Device(
                name=f"ROCm{index}",
                kind="rocm",
                description=_description(folder, node, root),
                total_bytes=total,
                free_bytes=min(free, total),
                index=index,
                unified=integrated,
                integrated=integrated,
                source="sysfs",
                driver=read_text(root / "sys/module/amdgpu/version") or None,
                pci_bus_id=_bus_id(folder),
                uuid=read_text(folder / "unique_id") or None,
            )
        )
    return tuple(devices), tuple(notes)


def card_folders(root: Path) -> list[Path]:
    """The device folders of AMD display devices, in PCI order (card numbers follow the order of the drivers)."""
    cards = [card for card in (root / "sys/class/drm").glob("card*") if _CARD.match(card.name)]
    folders = [card / "device" for card in cards if read_text(card / "device/vendor") == _AMD_VENDOR]
    return sorted(folders, key=_bus_id)


def _bus_id(folder: Path) -> str:
    """'0000:03:00.0': by the device's uevent, else by the name of the folder that the link leads to."""
    match = re.search(r"^PCI_SLOT_NAME=(\S+)$", read_text(folder / "uevent"), re.MULTILINE)
    return match.group(1).lower() if match else folder.resolve().name.lower()


def _kfd_nodes(root: Path) -> dict[str, dict[str, int]]:
    """The properties of each GPU node of the compute driver, by PCI bus id (domain and location_id)."""
    nodes: dict[str, dict[str, int]] = {}
    for file in (root / "sys/class/kfd/kfd/topology/nodes").glob("*/properties"):
        values: dict[str, int] = {}
        for line in read_text(file).splitlines():
            key, _, value = line.partition(" ")
            if value.strip().isdigit():
                values[key] = int(value)
        if not values.get("simd_count"):
            continue  # a processor without a GPU
        place = values.get("location_id", 0)
        bus, device, function = place >> 8, (place >> 3) & 0x1F, place & 0x7
        nodes[f"{values.get('domain', 0):04x}:{bus:02x}:{device:02x}.{function}"] = values
    return nodes


def _is_integrated(folder: Path, node: dict[str, int], vram_bytes: int) -> bool:
    """Whether the GPU is part of the processor.

    Only separate boards have memory chips with a maker to name: for the processor's own memory amdgpu says
    "unknown", or has no such file. Old compute drivers join such a GPU and the cores in one node. Datacenter boards
    may not name their HBM either, so a carve-out must also be small, and smaller than the GTT.
    """
    if node.get("cpu_cores_count"):
        return True
    if read_text(folder / "mem_info_vram_vendor").lower() not in ("", "unknown"):
        return False
    return vram_bytes <= _LARGEST_CARVE_OUT and vram_bytes < (_number(folder / "mem_info_gtt_total") or 0)


def _description(folder: Path, node: dict[str, int], root: Path) -> str:
    """The maker's name where the driver or the machine's list of PCI ids knows it, and the gfx name."""
    device_id = read_text(folder / "device").removeprefix("0x")
    name = read_text(folder / "product_name") or _pci_name(device_id, root) or f"AMD GPU {device_id}".strip()
    gfx = _gfx(node.get("gfx_target_version", 0))
    return f"{name} ({gfx})" if gfx else name


def _gfx(version: int) -> str | None:
    """110000 is gfx1100, 90010 is gfx90a: major in decimal, minor and step as hexadecimal digits."""
    if version <= 0:
        return None
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"


def _pci_name(device_id: str, root: Path) -> str | None:
    """The device's name from pci.ids: 'Navi 31 [Radeon RX 7900 XT/7900 XTX]' gives what is in brackets."""
    if not device_id:
        return None
    for place in ("usr/share/hwdata/pci.ids", "usr/share/misc/pci.ids"):
        inside = False
        for line in read_text(root / place).splitlines():
            if line[:1] not in ("\t", "#", ""):
                inside = line.startswith("1002 ")
            elif inside and line.startswith(f"\t{device_id}  "):
                name = line[len(device_id) + 3 :].strip()
                bracket = re.search(r"\[(.+)\]", name)
                return "AMD " + (bracket.group(1) if bracket else name)
    return None


def _number(path: Path) -> int | None:
    text = read_text(path)
    return int(text) if text.isdigit() else None
