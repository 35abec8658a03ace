"""The same card as two parties name it: the driver that counts its memory, and the runtime that uses it."""

from __future__ import annotations

from collections.abc import Sequence

from qwenops.machine.types import Device


def twin_of(device: Device, others: Sequence[Device]) -> Device | None:
    """Which of `others`, as another party lists them, is this card; None where that cannot be told.

    By PCI address or UUID where both have one. Else by kind and place in the list, or, where one party has it under
    another kind (an NVIDIA card that runs through Vulkan), by a name that no second card has.
    """
    for same in (_same_address, _same_uuid):
        for other in others:
            if same(device, other):
                return other
    rest = [o for o in others if not _differ(device, o)]
    for other in rest:
        if (other.kind, other.index) == (device.kind, device.index):
            return other
    named = [o for o in rest if o.kind != device.kind and o.description == device.description]
    return named[0] if len(named) == 1 else None


def _same_address(a: Device, b: Device) -> bool:
    return bool(a.pci_bus_id and b.pci_bus_id) and str(a.pci_bus_id).lower() == str(b.pci_bus_id).lower()


def _same_uuid(a: Device, b: Device) -> bool:
    return bool(a.uuid) and a.uuid == b.uuid


def _differ(a: Device, b: Device) -> bool:
    """Whether an address or UUID that both have says that they are two cards."""
    addresses = bool(a.pci_bus_id and b.pci_bus_id) and not _same_address(a, b)
    return addresses or (bool(a.uuid and b.uuid) and a.uuid != b.uuid)
