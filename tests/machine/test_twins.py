"""The driver's card is found in the runtime's list, or nobody is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qwenops.machine.twins import twin_of
from qwenops.machine.types import Device

CARD = Device("CUDA0", "cuda", "NVIDIA RTX 3090", 1, 1, pci_bus_id="0000:01:00.0", uuid="GPU-1")
SECOND = replace(CARD, name="CUDA1", index=1, pci_bus_id="0000:02:00.0", uuid="GPU-2")


@pytest.mark.parametrize(
    ("device", "others", "name"),
    [
        pytest.param(
            CARD,
            (replace(SECOND, name="CUDA0", index=0), replace(CARD, name="CUDA1", index=1)),
            "CUDA1",
            id="by address",
        ),
        pytest.param(replace(CARD, pci_bus_id="0000:01:00.0".upper()), (CARD,), "CUDA0", id="in any case"),
        pytest.param(replace(CARD, pci_bus_id=None), (SECOND, replace(CARD, name="X")), "X", id="by uuid"),
        pytest.param(
            replace(CARD, pci_bus_id=None, uuid=None), (SECOND, replace(CARD, name="X")), "X", id="by place in the list"
        ),
        pytest.param(
            CARD,
            (Device("Vulkan0", "vulkan", "NVIDIA RTX 3090", 1, 1),),
            "Vulkan0",
            id="another kind, by a name that is the only one",
        ),
        pytest.param(
            CARD,
            (
                Device("Vulkan0", "vulkan", "NVIDIA RTX 3090", 1, 1),
                Device("Vulkan1", "vulkan", "NVIDIA RTX 3090", 1, 1, index=1),
            ),
            None,
            id="another kind, and two of that name",
        ),
        pytest.param(CARD, (replace(SECOND, index=0),), None, id="its place is held by another card"),
        pytest.param(CARD, (Device("Vulkan0", "vulkan", "llvmpipe", 1, 1),), None, id="a stranger"),
        pytest.param(CARD, (), None, id="no list"),
    ],
)
def test_the_same_card_under_two_names(device: Device, others: tuple[Device, ...], name: str | None) -> None:
    twin = twin_of(device, others)
    assert (twin.name if twin else None) == name
