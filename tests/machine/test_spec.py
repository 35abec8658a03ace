"""`--gpu`: what a text describes, and what is said about a text that describes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.errors import BadInput
from qwenops.machine.detect import detect
from qwenops.machine.spec import (
    DATACENTER_DRIVER_BYTES,
    DESKTOP_BYTES,
    DRIVER_BYTES,
    UNIFIED_SYSTEM_BYTES,
    parse_spec,
)
from qwenops.machine.types import Device

MIB = 1024**2
GIB = 1024**3
HELD = (DRIVER_BYTES + DESKTOP_BYTES) // MIB
HELD_DATACENTER = DATACENTER_DRIVER_BYTES // MIB


def told(device: Device) -> tuple[str, str, int, int]:
    return device.name, device.description, device.total_bytes // MIB, device.free_bytes // MIB


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("none", []),
        (" None ", []),
        ("cpu", []),
        ("12GiB", [("CUDA0", "12.00 GiB cuda device", 12288, 12288 - HELD)]),
        ("12GB", [("CUDA0", "12.00 GiB cuda device", 12288, 12288 - HELD)]),
        ("12G", [("CUDA0", "12.00 GiB cuda device", 12288, 12288 - HELD)]),
        ("7.5 GiB", [("CUDA0", "7.50 GiB cuda device", 7680, 7680 - HELD)]),
        (
            "cuda:24GiB,cuda:12GiB",
            [
                ("CUDA0", "24.00 GiB cuda device", 24576, 24576 - HELD),
                ("CUDA1", "12.00 GiB cuda device", 12288, 12288 - HELD),
            ],
        ),
        ("vulkan:8GiB", [("Vulkan0", "8.00 GiB vulkan device", 8192, 8192 - HELD)]),
        ("rocm:16GiB", [("ROCm0", "16.00 GiB rocm device", 16384, 16384 - HELD)]),
        ("RTX 3060 12GB", [("CUDA0", "RTX 3060", 12288, 12288 - HELD)]),
        ("cuda:rtx3060-12gb", [("CUDA0", "RTX 3060", 12288, 12288 - HELD)]),
        ("RTX 3060 - 12GB", [("CUDA0", "RTX 3060", 12288, 12288 - HELD)]),
        ("4090", [("CUDA0", "RTX 4090", 24564, 24564 - HELD)]),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", [("CUDA0", "RTX 4070 Ti Super", 16376, 16376 - HELD)]),
        ("RTX 3060 mobile", [("CUDA0", "RTX 3060 Laptop", 6144, 6144 - HELD)]),
        ("RTX 2080 Ti 22GB", [("CUDA0", "RTX 2080 Ti", 22528, 22528 - HELD)]),
        ("2x RTX 3090", [("CUDA0", "RTX 3090", 24576, 23920), ("CUDA1", "RTX 3090", 24576, 23920)]),
        ("cuda:2xRTX 3090", [("CUDA0", "RTX 3090", 24576, 23920), ("CUDA1", "RTX 3090", 24576, 23920)]),
        (
            "RTX 3090, RX 7900 XTX, RTX 4090",
            [
                ("CUDA0", "RTX 3090", 24576, 24576 - HELD),
                ("ROCm0", "RX 7900 XTX", 24560, 24560 - HELD),
                ("CUDA1", "RTX 4090", 24564, 24564 - HELD),
            ],
        ),
        ("rocm:RX 7900 XTX", [("ROCm0", "RX 7900 XTX", 24560, 24560 - HELD)]),
        ("vulkan:RX 7900 XTX", [("Vulkan0", "RX 7900 XTX", 24560, 24560 - HELD)]),
        ("H100 80GB", [("CUDA0", "H100", 81559, 81559 - HELD_DATACENTER)]),
        ("NVIDIA A100-SXM4-80GB", [("CUDA0", "A100", 81920, 81920 - HELD_DATACENTER)]),
        ("A10G", [("CUDA0", "A10G", 23028, 23028 - HELD_DATACENTER)]),
        ("B200 192GB", [("CUDA0", "B200", 183359, 183359 - HELD_DATACENTER)]),
        ("H200 141GB", [("CUDA0", "H200", 143771, 143771 - HELD_DATACENTER)]),
        ("RTX 3060 12288MiB", [("CUDA0", "RTX 3060", 12288, 12288 - HELD)]),
        ("GB10", [("CUDA0", "GB10", 122500, 122500 - UNIFIED_SYSTEM_BYTES // MIB)]),
        ("metal:36GiB", [("MTL0", "Apple GPU", 27648, 27648)]),
        ("M1 16GB", [("MTL0", "Apple M1", 10922, 10922)]),
        ("Apple M4 Max 64GB", [("MTL0", "Apple M4 Max", 49152, 49152)]),
        ("Voodoo 5 16GiB", [("CUDA0", "Voodoo 5", 16384, 16384 - HELD)]),
        ("vulkan:Voodoo 5 16GiB", [("Vulkan0", "Voodoo 5", 16384, 16384 - HELD)]),
        ("RTX 3060 12GB 11.5GiB free", [("CUDA0", "RTX 3060", 12288, 11776)]),
        ("cuda:10GiB free", [("CUDA0", "10.00 GiB cuda device", 10240, 10240)]),
        ("512MiB", [("CUDA0", "512 MiB cuda device", 512, 384)]),
    ],
)
def test_a_text_describes_devices(text: str, devices: list[tuple[str, str, int, int]]) -> None:
    assert [told(device) for device in parse_spec(text)] == devices


def test_described_devices_know_what_they_are() -> None:
    card, mac = parse_spec("RTX 3060 12GB,M2 Ultra 128GB")
    assert (card.kind, card.compute_capability, card.unified, card.source) == ("cuda", (8, 6), False, "--gpu")
    assert (mac.kind, mac.compute_capability, mac.unified, mac.index) == ("metal", None, True, 1)


@pytest.mark.parametrize(
    ("text", "message", "do"),
    [
        ("", "empty part", "--gpu 12GiB"),
        ("12GiB,", "empty part", "--gpu 12GiB"),
        ("12", "no unit", "--gpu 12GiB"),
        ("cuda:", "no size", "--gpu 12GiB"),
        ("12GiB,none", "none stands alone", "--gpu none"),
        ("RTX 4O90", "the nearest known: RTX 4090", '--gpu "RTX 4O90 12GB"'),
        ("RTX 3060", "8 GiB and 12 GiB", '--gpu "RTX 3060 12GB"'),
        ("M4 Max", "several memory sizes", '--gpu "M4 Max 36GB"'),
        ("Ryzen AI Max+ 395", "the computer's memory", "96GiB"),
        ("rocm:RTX 3090", "does not run on rocm", "cuda:RTX 3090"),
        ("metal:RTX 3090", "does not run on metal", "vulkan:RTX 3090"),
        ("vulkan:M4 Max 64GB", "does not run on vulkan", "metal:M4 Max"),
        ("1MiB", "no size for a GPU", "--gpu 12GiB"),
        ("9999TiB", "no size for a GPU", "--gpu 12GiB"),
        ("0x RTX 3090", "0 devices", "1 to 64"),
        ("999999x 12GiB", "999999 devices", "1 to 64"),
        ("40x 12GiB,40x 12GiB", "80 devices", "at most 64"),
        ("-5GiB", "size with a sign", "--gpu 12GiB"),
        ("+5GiB", "size with a sign", "--gpu 12GiB"),
        ("\u22125GiB", "size with a sign", "--gpu 12GiB"),
        ("cuda:-5GiB", "size with a sign", "--gpu 12GiB"),
        ("2x -5GiB", "size with a sign", "--gpu 12GiB"),
        ("RTX 3060 12GB -1GiB free", "size with a sign", "--gpu 12GiB"),
        ("12GiB 13GiB free", "more than its total", ""),
    ],
)
def test_a_text_that_describes_nothing_says_what_to_write(text: str, message: str, do: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_spec(text)
    assert message in caught.value.message
    assert do in " ".join(caught.value.do)


@given(st.text(max_size=60))
def test_any_text_is_devices_or_bad_input(text: str) -> None:
    try:
        devices = parse_spec(text)
    except BadInput:
        return
    for device in devices:
        assert 0 < device.free_bytes <= device.total_bytes


@given(st.lists(st.tuples(st.sampled_from(["cuda", "rocm", "vulkan"]), st.integers(1, 512)), min_size=1, max_size=8))
def test_devices_keep_their_order_and_are_numbered_by_kind(parts: list[tuple[str, int]]) -> None:
    devices = parse_spec(",".join(f"{kind}:{gib}GiB" for kind, gib in parts))
    assert [(d.kind, d.total_bytes) for d in devices] == [(kind, gib * GIB) for kind, gib in parts]
    assert [d.index for d in devices] == list(range(len(parts)))
    assert len({d.name for d in devices}) == len(devices)
    for kind in ("cuda", "rocm", "vulkan"):
        numbers = [int(d.name.lstrip("CUDAROmVulkan")) for d in devices if d.kind == kind]
        assert numbers == list(range(len(numbers)))


def test_a_described_machine_says_what_it_assumed_and_how_to_state_it() -> None:
    machine = detect("2x RTX 3060 12GB")
    assert machine.hypothetical
    assert machine.host.total_bytes > 0
    [note] = machine.notes
    assert "RTX 3060: free is taken as 11.36 GiB of 12.00 GiB" in note
    assert '"11.36GiB free"' in note


@pytest.mark.parametrize("text", ["none", "RTX 3060 12GB 12GiB free"])
def test_nothing_assumed_is_nothing_said(text: str) -> None:
    assert detect(text).notes == ()


def test_the_share_of_a_mac_is_said() -> None:
    assert detect("metal:36GiB").notes == ("Apple GPU: 27.00 GiB is what macOS lets a GPU hold of such a Mac's memory",)
