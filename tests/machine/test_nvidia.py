"""NVIDIA cards in every state that NVML can describe, seen through the real pynvml."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.nvml import FakeNvml, build_library

MIB = 1024**2
GIB = 1024**3

RTX_3060 = f"""
[gpu]
name = NVIDIA GeForce RTX 3060
uuid = GPU-3060
bus = 0000:01:00
cc = 8.6
total = {12288 * MIB}
reserved = {249 * MIB}
used = {600 * MIB}
"""


def scenario(*cards: str, **driver: str) -> str:
    head = {"driver": "580.126.09", **driver}
    return "".join(f"{key} = {value}\n" for key, value in head.items()) + "".join(cards)


def only(machine: dict[str, Any]) -> dict[str, Any]:
    [device] = machine["devices"]
    assert isinstance(device, dict)
    return device


def test_one_card_is_told_with_everything_that_nvml_knows(nvml: FakeNvml, root: Path) -> None:
    machine = nvml.detect(scenario(RTX_3060 + "process = compute 999999 -\n"), root)
    assert only(machine) == {
        "name": "CUDA0",
        "kind": "cuda",
        "description": "NVIDIA GeForce RTX 3060",
        "total_bytes": 12288 * MIB,
        "free_bytes": (12288 - 249 - 600) * MIB,
        "reserved_bytes": 249 * MIB,
        "index": 0,
        "unified": False,
        "integrated": False,
        "source": "nvml",
        "driver": "580.126.09",
        "compute_capability": [8, 6],
        "pci_bus_id": "0000:01:00.0",
        "uuid": "GPU-3060",
        "mig": False,
        "processes": [{"pid": 999999, "name": "out of sight", "used_bytes": None}],
    }
    assert machine["notes"] == []
    assert machine["hypothetical"] is False


def test_cards_are_named_in_pci_order_whatever_order_nvml_has(nvml: FakeNvml, root: Path) -> None:
    def card(name: str, bus: str) -> str:
        return f"[gpu]\nname = {name}\nbus = {bus}\ntotal = {8 * GIB}\n"

    cards = [card("third", "0001:02:00"), card("second", "0000:c1:00"), card("first", "0000:0a:00")]
    devices = nvml.detect(scenario(*cards), root)["devices"]
    assert [(d["name"], d["description"], d["pci_bus_id"], d["index"]) for d in devices] == [
        ("CUDA0", "first", "0000:0a:00.0", 0),
        ("CUDA1", "second", "0000:c1:00.0", 1),
        ("CUDA2", "third", "0001:02:00.0", 2),
    ]


CARDS = st.lists(
    st.tuples(
        st.integers(0, 0xFFFF),
        st.integers(0, 0xFF),
        st.integers(0, 0x1F),
        st.lists(st.integers(1, 2**38), min_size=3, max_size=3),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda card: card[:3],
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cards=CARDS)
def test_any_cards_are_told_to_the_byte_and_in_order(nvml: FakeNvml, root: Path, cards: list[Any]) -> None:
    told = [
        f"[gpu]\nname = card\nbus = {domain:x}:{bus:x}:{device:x}\n"
        f"total = {sum(sizes)}\nreserved = {sizes[0]}\nused = {sizes[1]}\n"
        for domain, bus, device, sizes in cards
    ]
    devices = nvml.detect(scenario(*told), root)["devices"]
    assert [(d["pci_bus_id"], d["total_bytes"], d["reserved_bytes"], d["free_bytes"]) for d in devices] == [
        (f"{domain:04x}:{bus:02x}:{device:02x}.0", sum(sizes), sizes[0], sizes[2])
        for domain, bus, device, sizes in sorted(cards)
    ]
    assert [d["name"] for d in devices] == [f"CUDA{n}" for n in range(len(cards))]


def test_a_card_cut_by_mig_is_told_as_its_parts(nvml: FakeNvml, root: Path) -> None:
    card = f"""
[gpu]
name = NVIDIA A100-SXM4-40GB
uuid = GPU-a100
bus = 0000:07:00
cc = 8.0
total = {40960 * MIB}
mig = 1
slots = 7
[mig]
name = NVIDIA A100-SXM4-40GB MIG 3g.20gb
uuid = MIG-one
total = {19968 * MIB}
reserved = {10 * MIB}
used = {27 * MIB}
process = compute 999999 {20 * MIB}
[mig]
name = NVIDIA A100-SXM4-40GB MIG 1g.5gb
uuid = MIG-two
total = {4864 * MIB}
"""
    machine = nvml.detect(scenario(card), root)
    first, second = machine["devices"]
    assert (first["name"], first["uuid"], first["mig"]) == ("CUDA0", "MIG-one", True)
    assert (second["name"], second["uuid"], second["mig"]) == ("CUDA1", "MIG-two", True)
    assert first["free_bytes"] == (19968 - 37) * MIB
    assert second["free_bytes"] == second["total_bytes"] == 4864 * MIB
    assert first["pci_bus_id"] == second["pci_bus_id"] == "0000:07:00.0"
    assert [p["pid"] for p in first["processes"]] == [999999]
    assert len(machine["notes"]) == 1
    assert "2 MIG devices" in machine["notes"][0]


def test_mig_on_without_parts_says_how_to_cut_or_leave_it(nvml: FakeNvml, root: Path) -> None:
    card = f"[gpu]\nname = NVIDIA A100\nbus = 0:7:0\ntotal = {40 * GIB}\nmig = 1\nslots = 7\n"
    machine = nvml.detect(scenario(card), root)
    assert machine["devices"] == []
    assert "nvidia-smi -i 0 -mig 0" in machine["notes"][0]


def test_mig_switched_off_is_an_ordinary_card(nvml: FakeNvml, root: Path) -> None:
    card = f"[gpu]\nname = NVIDIA H100\nbus = 0:7:0\ntotal = {80 * GIB}\nmig = 0\nslots = 7\n"
    assert only(nvml.detect(scenario(card), root))["mig"] is False


@pytest.mark.parametrize(
    "memory",
    [
        pytest.param("memory_v1 = 3\nmemory_v2 = 3\n", id="GB10 says that memory is not supported"),
        pytest.param("total = 0\n", id="total is 0"),
        pytest.param("memory_v2 = 3\ntotal = 0\n", id="the old call gives 0"),
    ],
)
def test_memory_that_nvml_cannot_tell_is_the_hosts(nvml: FakeNvml, root: Path, memory: str) -> None:
    machine = nvml.detect(scenario(f"[gpu]\nname = NVIDIA GB10\nbus = 000f:01:00\ncc = 12.1\n{memory}"), root)
    device = only(machine)
    assert (device["unified"], device["integrated"]) == (True, True)
    assert device["total_bytes"] == machine["host"]["total_bytes"] > 0
    assert device["free_bytes"] == machine["host"]["available_bytes"]
    assert device["reserved_bytes"] == 0
    assert device["pci_bus_id"] == "000f:01:00.0"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (18, "restart the machine"),
        (4, "/dev/nvidia"),
        (17, "scenario error 17 (NVML error 17)"),
        (999, "nvidia-smi"),
    ],
)
def test_a_broken_driver_is_a_note_with_the_mend(nvml: FakeNvml, root: Path, error: int, words: str) -> None:
    machine = nvml.detect(scenario(init=str(error)), root)
    assert machine["devices"] == []
    assert len(machine["notes"]) == 1
    assert words in machine["notes"][0]


def test_a_mismatch_names_the_driver_that_is_still_loaded(nvml: FakeNvml, root: Path) -> None:
    version = root / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.16  Fri Jan 24 20:53:26 UTC 2026\n")
    [note] = nvml.detect(scenario(init="18"), root)["notes"]
    assert "570.86.16 is loaded" in note


def test_a_driver_that_is_not_loaded_matters_only_where_a_card_is(nvml: FakeNvml, root: Path) -> None:
    assert nvml.detect(scenario(init="9"), root)["notes"] == []
    put_card_on_the_bus(root)
    [note] = nvml.detect(scenario(init="9"), root)["notes"]
    assert "modprobe nvidia" in note


def test_no_library_is_silent_without_a_card_and_a_note_with_one(nvml: FakeNvml, root: Path) -> None:
    if os.path.exists("/proc/driver/nvidia"):
        pytest.skip("this machine has a real driver")
    assert nvml.detect(scenario(RTX_3060), root, in_path=False)["notes"] == []
    put_card_on_the_bus(root)
    [note] = nvml.detect(scenario(RTX_3060), root, in_path=False)["notes"]
    assert "install the NVIDIA driver" in note


def test_a_driver_without_its_library_is_a_container_without_gpus(nvml: FakeNvml, root: Path) -> None:
    version = root / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.126.09  Release Build\n")
    [note] = nvml.detect(scenario(RTX_3060), root, in_path=False)["notes"]
    assert "--gpus all" in note


def test_the_library_is_found_where_wsl_keeps_it(nvml: FakeNvml, root: Path) -> None:
    place = root / "usr/lib/wsl/lib/libnvidia-ml.so.1"
    place.parent.mkdir(parents=True)
    place.symlink_to(nvml.library)
    device = only(nvml.detect(scenario(RTX_3060), root, in_path=False))
    assert device["description"] == "NVIDIA GeForce RTX 3060"


@pytest.mark.parametrize(
    ("without", "changed"),
    [
        pytest.param(("nvmlDeviceGetMemoryInfo_v2",), {"reserved_bytes": 0}, id="a driver before the reserve was told"),
        pytest.param(("nvmlDeviceGetComputeRunningProcesses_v3",), {}, id="a driver with the older list of processes"),
        pytest.param(
            (
                "nvmlDeviceGetComputeRunningProcesses_v3",
                "nvmlDeviceGetComputeRunningProcesses_v2",
                "nvmlDeviceGetMigMode",
                "nvmlDeviceGetCudaComputeCapability",
                "nvmlDeviceGetUUID",
                "nvmlDeviceGetPciInfo_v3",
                "nvmlSystemGetDriverVersion",
            ),
            {"processes": [], "compute_capability": None, "uuid": None, "pci_bus_id": None, "driver": None},
            id="hardly anything",
        ),
    ],
)
def test_missing_functions_cost_what_they_would_have_told(
    nvml: FakeNvml, root: Path, tmp_path: Path, without: tuple[str, ...], changed: dict[str, Any]
) -> None:
    text = scenario(RTX_3060 + f"process = compute 999999 {MIB}\n")
    older = FakeNvml(build_library(tmp_path / "older", without), tmp_path)
    whole, machine = only(nvml.detect(text, root)), older.detect(text, root)
    assert only(machine) == {**whole, **changed}
    assert machine["notes"] == []


def test_a_lost_card_is_left_out_and_the_others_stay(nvml: FakeNvml, root: Path) -> None:
    lost = "[gpu]\nname = NVIDIA GeForce RTX 3090\nbus = 0:02:0\nhandle = 15\n"
    machine = nvml.detect(scenario(lost, RTX_3060), root)
    assert only(machine)["description"] == "NVIDIA GeForce RTX 3060"
    [note] = machine["notes"]
    assert "NVIDIA card 0" in note
    assert "fell off the bus" in note


def test_a_card_that_is_lost_while_it_is_asked_is_left_out_too(nvml: FakeNvml, root: Path) -> None:
    dying = "[gpu]\nname = NVIDIA GeForce RTX 3090\nbus = 0:02:0\nmemory_v2 = 15\nmemory_v1 = 15\n"
    machine = nvml.detect(scenario(RTX_3060, dying), root)
    assert [d["description"] for d in machine["devices"]] == ["NVIDIA GeForce RTX 3060"]
    assert "RTX 3090" in machine["notes"][0]


def test_cards_that_cannot_be_counted_are_a_note(nvml: FakeNvml, root: Path) -> None:
    machine = nvml.detect(scenario(RTX_3060, count_error="999"), root)
    assert machine["devices"] == []
    assert "could not be counted" in machine["notes"][0]


def test_a_driver_too_old_to_count_its_cards_is_a_note(nvml: FakeNvml, root: Path, tmp_path: Path) -> None:
    older = FakeNvml(build_library(tmp_path / "older", ("nvmlDeviceGetCount_v2",)), tmp_path)
    machine = older.detect(scenario(RTX_3060), root)
    assert machine["devices"] == []
    assert machine["notes"] == ["the NVIDIA driver 580.126.09 is too old to count its cards: update it"]


def test_the_older_call_answers_where_the_newer_fails(nvml: FakeNvml, root: Path) -> None:
    device = only(nvml.detect(scenario(RTX_3060 + "memory_v2 = 2\n"), root))
    assert (device["total_bytes"], device["reserved_bytes"]) == (12288 * MIB, 0)
    assert device["free_bytes"] == (12288 - 249 - 600) * MIB


def test_processes_that_may_not_be_seen_are_one_note(nvml: FakeNvml, root: Path) -> None:
    machine = nvml.detect(scenario(RTX_3060 + "processes_error = 4\n"), root)
    assert only(machine)["processes"] == []
    [note] = machine["notes"]
    assert "who uses NVIDIA card 0 could not be read: no permission" in note


def test_a_process_is_named_once_with_the_most_that_any_list_says(nvml: FakeNvml, root: Path) -> None:
    me = os.getpid()
    lines = (
        f"process = graphics {me} -\nprocess = compute {me} {300 * MIB}\n"
        f"process = graphics 1 {5 * MIB}\nprocess = compute 1 {9 * MIB}\n"
    )
    processes = only(nvml.detect(scenario(RTX_3060 + lines), root))["processes"]
    assert [(p["pid"], p["used_bytes"]) for p in processes] == [(1, 9 * MIB), (me, 300 * MIB)]
    assert processes[1]["name"] == Path(f"/proc/{me}/comm").read_text().strip()


def put_card_on_the_bus(root: Path) -> None:
    device = root / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030000\n")
