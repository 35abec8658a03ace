"""AMD GPUs as the amdgpu driver shows them in sysfs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qwenops.machine.amd import read_amd
from qwenops.machine.types import Host

MIB = 1024**2
GIB = 1024**3
HOST = Host(64 * GIB, 40 * GIB, 8, 16, "linux", "x86_64")


def put_gpu(root: Path, card: int, bus: str, *, vendor: str = "0x1002", node: str = "", **files: str) -> None:
    """One card as the kernel lays it out: a PCI folder, a link to it from drm, connectors beside it."""
    pci = root / f"sys/devices/pci0000:00/{bus}"
    pci.mkdir(parents=True)
    (pci / "vendor").write_text(f"{vendor}\n")
    (pci / "uevent").write_text(f"DRIVER=amdgpu\nPCI_SLOT_NAME={bus}\n")
    for name, text in files.items():
        (pci / name).write_text(f"{text}\n")
    drm = root / f"sys/class/drm/card{card}"
    drm.mkdir(parents=True)
    (drm / "device").symlink_to(os.path.relpath(pci, drm))
    connector = root / f"sys/class/drm/card{card}-DP-1"
    connector.mkdir()
    (connector / "device").symlink_to(os.path.relpath(drm, connector))
    if node:
        place = root / f"sys/class/kfd/kfd/topology/nodes/{card + 1}/properties"
        place.parent.mkdir(parents=True)
        place.write_text(node)


def navi31(root: Path, card: int = 1, bus: str = "0000:03:00.0", location: int = 0x300) -> None:
    put_gpu(
        root,
        card,
        bus,
        device="0x744c",
        mem_info_vram_total=str(24560 * MIB),
        mem_info_vram_used=str(1000 * MIB),
        mem_info_vram_vendor="samsung",
        mem_info_gtt_total=str(32 * GIB),
        mem_info_gtt_used=str(50 * MIB),
        unique_id="a1b2c3",
        node=f"cpu_cores_count 0\nsimd_count 192\ngfx_target_version 110000\nlocation_id {location}\ndomain 0\n",
    )


def test_a_board_is_told_by_its_own_memory(root: Path) -> None:
    navi31(root)
    (device,), notes = read_amd(HOST, root)
    assert (device.name, device.kind, device.source) == ("ROCm0", "rocm", "sysfs")
    assert device.description == "AMD GPU 744c (gfx1100)"
    assert (device.total_bytes, device.free_bytes) == (24560 * MIB, 23560 * MIB)
    assert (device.unified, device.integrated) == (False, False)
    assert (device.pci_bus_id, device.uuid) == ("0000:03:00.0", "a1b2c3")
    assert notes == ()


def test_the_machines_list_of_pci_ids_gives_the_name(root: Path) -> None:
    navi31(root)
    ids = root / "usr/share/misc/pci.ids"
    ids.parent.mkdir(parents=True)
    ids.write_text(
        "# comment\n1001  Someone else\n\t744c  Wrong\n1002  Advanced Micro Devices, Inc. [AMD/ATI]\n"
        "\t744c  Navi 31 [Radeon RX 7900 XT/7900 XTX/7900M]\n\t\t1002 0e3b  Sub\n10de  NVIDIA\n\t744c  Wrong\n"
    )
    [device] = read_amd(HOST, root)[0]
    assert device.description == "AMD Radeon RX 7900 XT/7900 XTX/7900M (gfx1100)"


def test_cards_come_in_pci_order_and_others_are_not_ours(root: Path) -> None:
    navi31(root, card=0, bus="0000:43:00.0", location=0x4300)
    navi31(root, card=1, bus="0000:03:00.0")
    put_gpu(root, 2, "0000:01:00.0", vendor="0x10de", mem_info_vram_total="1")
    devices, _ = read_amd(HOST, root)
    assert [(d.name, d.index, d.pci_bus_id) for d in devices] == [
        ("ROCm0", 0, "0000:03:00.0"),
        ("ROCm1", 1, "0000:43:00.0"),
    ]


@pytest.mark.parametrize(
    ("vendor_file", "node"),
    [
        pytest.param({}, "cpu_cores_count 0\nsimd_count 80\n", id="no memory chips to name"),
        pytest.param({"mem_info_vram_vendor": "unknown"}, "", id="chips unknown, no compute driver"),
        pytest.param(
            {"mem_info_vram_vendor": "samsung"},
            "cpu_cores_count 16\nsimd_count 80\nlocation_id 50432\ngfx_target_version 110501\n",
            id="one node with the cores",
        ),
    ],
)
def test_a_gpu_in_the_processor_counts_carve_out_and_gtt(root: Path, vendor_file: dict[str, str], node: str) -> None:
    put_gpu(
        root,
        0,
        "0000:c5:00.0",
        device="0x1586",
        mem_info_vram_total=str(512 * MIB),
        mem_info_vram_used=str(100 * MIB),
        mem_info_gtt_total=str(32 * GIB),
        mem_info_gtt_used=str(2 * GIB),
        node=node,
        **vendor_file,
    )
    [device] = read_amd(HOST, root)[0]
    assert (device.unified, device.integrated) == (True, True)
    assert device.total_bytes == 512 * MIB + 32 * GIB
    assert device.free_bytes == 412 * MIB + 30 * GIB


def test_what_is_free_of_the_gtt_is_never_more_than_the_host_has(root: Path) -> None:
    put_gpu(root, 0, "0000:c5:00.0", mem_info_vram_total=str(512 * MIB), mem_info_gtt_total=str(48 * GIB), device="0x1")
    tight = Host(64 * GIB, 3 * GIB, 8, 16, "linux", "x86_64")
    [device] = read_amd(tight, root)[0]
    assert device.free_bytes == 512 * MIB + 3 * GIB


def test_a_datacenter_board_without_a_named_chip_is_no_apu(root: Path) -> None:
    put_gpu(
        root,
        0,
        "0000:05:00.0",
        mem_info_vram_total=str(196592 * MIB),
        mem_info_vram_used="0",
        mem_info_gtt_total=str(1024 * GIB),
        product_name="AMD Instinct MI300X OAM",
        node="simd_count 1216\ncpu_cores_count 0\nlocation_id 1280\ngfx_target_version 90402\n",
    )
    [device] = read_amd(HOST, root)[0]
    assert not device.integrated
    assert device.total_bytes == 196592 * MIB
    assert device.description == "AMD Instinct MI300X OAM (gfx942)"


@pytest.mark.parametrize(
    ("version", "gfx"),
    [(110000, "gfx1100"), (90010, "gfx90a"), (90402, "gfx942"), (100301, "gfx1031"), (120001, "gfx1201")],
)
def test_gfx_names_are_written_as_llama_cpp_writes_them(root: Path, version: int, gfx: str) -> None:
    put_gpu(
        root,
        0,
        "0000:05:00.0",
        mem_info_vram_total=str(16 * GIB),
        mem_info_vram_vendor="hynix",
        product_name="X",
        node=f"simd_count 1\nlocation_id 1280\ngfx_target_version {version}\n",
    )
    assert read_amd(HOST, root)[0][0].description == f"X ({gfx})"


def test_a_gpu_without_its_driver_is_a_note(root: Path) -> None:
    put_gpu(root, 0, "0000:03:00.0", device="0x744c")
    devices, notes = read_amd(HOST, root)
    assert devices == ()
    assert "0000:03:00.0" in notes[0]
    assert "modprobe amdgpu" in notes[0]


def test_a_machine_without_drm_has_none(root: Path) -> None:
    assert read_amd(HOST, root) == ((), ())
