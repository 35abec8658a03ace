"""Ollama's own functions judge how devices are read, filtered and shown to a child."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenops.machine.types import Device, Kind
from qwenops.runtime import devices as d
from qwenops.runtime.flags import child_environment, device_environment
from qwenops.runtime.types import Backend
from qwenops.units import GIB, MIB
from tests.runtime.oracle_build import Oracle
from tests.runtime.test_devices import CUDA, METAL, NONE, ROCM, VULKAN, make

pytestmark = [pytest.mark.go, pytest.mark.slow]

PCI = [None, None, "0000:01:00.0", "0000:01:00.A", "0000:01:00.a"]
NAMES = ["NVIDIA GeForce RTX 3060", "NVIDIA GeForce RTX 3060 (NVK)", "AMD Radeon (RADV X)", "(x)"]
LIBRARIES: list[tuple[str, Kind, str]] = [
    ("CUDA", "cuda", "cuda_v12"),
    ("CUDA", "cuda", "cuda_v13"),
    ("ROCm", "rocm", "rocm"),
    ("Vulkan", "vulkan", "vulkan"),
]


def drawn(rng: random.Random) -> d.SeenDevice:
    library, kind, folder = rng.choice(LIBRARIES)
    device = Device(
        name=f"D{rng.randrange(10**6)}",
        kind=kind,
        description=rng.choice(NAMES),
        total_bytes=rng.choice([0, 6 * GIB, 12 * GIB, 12 * GIB + 300 * MIB, 13 * GIB]),
        free_bytes=0,
        integrated=rng.random() < 0.3,
        pci_bus_id=rng.choice(PCI),
    )
    return d.SeenDevice(device, Backend(device.name, library, str(rng.randrange(3)), folders=(Path("/lib") / folder,)))


def told(seen: Sequence[d.SeenDevice]) -> list[dict[str, Any]]:
    return [
        {
            "Name": s.device.name,
            "Library": s.backend.library,
            "ID": s.backend.id,
            "Description": s.device.description,
            "PCIID": s.device.pci_bus_id or "",
            "Dir": str(s.backend.folders[-1]),
            "Total": s.device.total_bytes,
            "Integrated": s.device.integrated,
            "FilterID": s.backend.filter_id,
        }
        for s in seen
    ]


def test_ollama_itself_reads_a_device_list_so(oracle: Oracle) -> None:
    texts = [CUDA, ROCM, VULKAN, METAL, NONE]
    answers = oracle.ask({"op": "list", "Text": text} for text in texts)
    for text, answer in zip(texts, answers, strict=True):
        theirs = answer["devices"] or []
        ours = d.parse_devices(text)
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert one.device.name == other["name"]
            assert one.device.description == other["description"]
            assert (one.backend.library, one.backend.id) == (other["library"], other["id"])
            assert (one.device.total_bytes, one.device.free_bytes) == (other["total"], other["free"])
            assert one.gfx == other["gfx"]
            if one.device.kind == "cuda":
                assert one.device.compute_capability == (other["major"], other["minor"])
            # Ollama calls Metal integrated where it was compiled for a Mac.
            assert one.device.integrated == other["integrated"] or one.device.kind == "metal"


def test_ollama_itself_leaves_out_the_same_integrated_gpus(oracle: Oracle) -> None:
    rng = random.Random(6)
    cases = [([drawn(rng) for _ in range(rng.randrange(5))], rng.choice(["", "0", "1"])) for _ in range(2000)]
    answers = oracle.ask({"op": "integrated", "Devices": told(g), "Env": {"OLLAMA_IGPU_ENABLE": s}} for g, s in cases)
    for (group, setting), answer in zip(cases, answers, strict=True):
        kept = d.drop_integrated(group, {"OLLAMA_IGPU_ENABLE": setting}, os="linux")
        assert [s.device.name for s in kept] == answer["devices"]


def test_ollama_itself_takes_the_same_two_devices_for_one_card(oracle: Oracle) -> None:
    rng = random.Random(9)
    pairs = [(drawn(rng), drawn(rng)) for _ in range(4000)]
    pairs = [(a, b) for a, b in pairs if a.backend.library != b.backend.library]
    answers = oracle.ask({"op": "same", "Devices": told(pair)} for pair in pairs)
    for (a, b), answer in zip(pairs, answers, strict=True):
        kept = d.drop_duplicates([a, b])
        assert kept == ([a if answer["first"] else b] if answer["same"] else [a, b]), (a, b)


def test_ollama_itself_keeps_the_same_version_of_a_library(oracle: Oracle) -> None:
    rng = random.Random(7)
    groups = []
    for _ in range(1000):
        group = []
        for folder in ("cuda_v11", "cuda_v12", "cuda_v13")[: rng.randrange(1, 4)]:
            for i in range(3):
                if rng.random() < 0.7:
                    name = f"{folder}-{i}"
                    device = Device(name, "cuda", name, GIB, GIB)
                    group.append(d.SeenDevice(device, Backend(name, "CUDA", str(i), folders=(Path("/lib") / folder,))))
        groups.append(group)
    answers = oracle.ask({"op": "overlap", "Devices": told(g)} for g in groups)
    for group, answer in zip(groups, answers, strict=True):
        kept = [s.device.name for s in d.drop_overlaps(group)]
        assert kept == [s.device.name for s, gone in zip(group, answer["dropped"], strict=True) if not gone]


def test_ollama_itself_shows_a_child_the_same_devices(oracle: Oracle) -> None:
    rng = random.Random(8)
    names = ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")
    cases = []
    for _ in range(2000):
        seen = [drawn(rng) for _ in range(rng.randrange(4))]
        seen = [replace(s, backend=replace(s.backend, filter_id=rng.choice(["", "7"]))) for s in seen]
        cases.append((seen, {n: rng.choice(["0,1", "GPU-x", " 2 ", ","]) for n in names if rng.random() < 0.4}))
    answers = oracle.ask({"op": "shown", "Devices": told(s), "Env": e} for s, e in cases)
    for (seen, environment), answer in zip(cases, answers, strict=True):
        assert device_environment([s.backend for s in seen], environment) == (answer["env"] or {}), (seen, environment)


def test_ollama_itself_gives_a_child_the_same_libraries(oracle: Oracle, tmp_path: Path) -> None:
    make(tmp_path, "llama-server", "a/libggml-base.so", "a/libggml-cuda.so", "a/libggml-z.so")
    make(tmp_path, "b/libggml-vulkan.so", "c/x")
    sets = [[], ["a"], ["b", "a"], ["c", "b"], ["a", "a", "."]]
    old = {"GGML_BACKEND_PATH": "/old", "LD_LIBRARY_PATH": str(tmp_path / "a")}
    inherited = [{}, {"LD_LIBRARY_PATH": "/x::/y:/x"}, old]
    questions = [([tmp_path / f for f in folders], e) for folders in sets for e in inherited]
    exe = tmp_path / "llama-server"
    answers = oracle.ask(
        {"op": "child", "Exe": str(exe), "Folders": [str(f) for f in folders], "Env": e} for folders, e in questions
    )
    for (folders, environment), answer in zip(questions, answers, strict=True):
        assert child_environment(environment, exe, folders, {}) == answer["env"], (folders, environment)
