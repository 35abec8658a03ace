"""Ollama's own functions judge the rules, on machines drawn at random with sizes at the edges."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenops.machine.types import Device, Kind
from qwenops.model.gguf_header import read_header
from qwenops.runtime import placement, rules
from qwenops.runtime.facts import RunOptions, model_facts
from qwenops.runtime.fit_target import projector_fit_target_mib
from qwenops.units import GIB
from tests.runtime.machines import LIBRARY, PLAIN, VISION
from tests.runtime.oracle_build import Oracle
from tests.support.tiny import TinyModel


def drawn(rng: random.Random) -> list[Device]:
    kinds: list[Kind] = ["cuda", "rocm", "vulkan", "metal"]
    devices = []
    for i in range(rng.choice([0, 1, 1, 2, 3])):
        total = rng.choice([2, 6, 8, 12, 24, 48]) * GIB
        free = rng.choice([0, total, rng.randrange(total), 8 * GIB, 2 * GIB])
        capability = rng.choice([(5, 2), (6, 1), (7, 2), (7, 5), (8, 9)])
        kind = rng.choice(kinds)
        devices.append(
            Device(
                f"D{i}", kind, f"D{i}", total, free, integrated=rng.random() < 0.2,
                compute_capability=capability if kind == "cuda" else None,
            )
        )  # fmt: skip
    return devices


def told(devices: list[Device]) -> list[dict[str, Any]]:
    return [
        {
            "Name": d.name,
            "Library": LIBRARY[d.kind],
            "ID": str(i),
            "Description": d.description,
            "Total": d.total_bytes,
            "Free": d.free_bytes,
            "Integrated": d.integrated,
            "Major": (d.compute_capability or (0, 0))[0],
            "Minor": (d.compute_capability or (0, 0))[1],
        }
        for i, d in enumerate(devices)
    ]


ROUNDS = 3000
FLASH = {"auto": -1, "off": 0, "on": 1}


def near(rng: random.Random, size: int) -> int:
    """A size at, or just beside, an edge of the rules."""
    share = rng.choice([0, 50, 60, 75, 80, 100, 120])
    return max(0, size * share // 100 + rng.choice([-1, 0, 1, rng.randrange(-GIB, GIB)]))


@pytest.mark.go
@pytest.mark.slow
def test_ollama_itself_picks_the_same_batch(oracle: Oracle) -> None:
    rng = random.Random(1)
    cases = []
    for _ in range(ROUNDS):
        available = rng.choice([0, rng.randrange(1, 48 * GIB)])
        ctx = rng.choice([512, 4096, 4097, 32768, 32769, 262144])
        cases.append((ctx, near(rng, available), available, rng.choice(["auto", "on", "off"]), drawn(rng)))
    answers = oracle.ask(
        {
            "op": "batch", "Ctx": c, "Predicted": p, "Available": a, "FlashAttention": FLASH[f],
            "Devices": told(d), "Batch": c,
        }
        for c, p, a, f, d in cases
    )  # fmt: skip
    for (ctx, predicted, available, attention, devices), answer in zip(cases, answers, strict=True):
        ours = placement.default_num_batch(ctx, predicted, available, attention, devices)  # type: ignore[arg-type]
        assert ours == answer["batch"], (ctx, predicted, available, attention, devices)
        assert placement.batch_surcharge_bytes(ctx) == answer["surcharge"]


@pytest.mark.go
@pytest.mark.slow
def test_ollama_itself_picks_the_same_devices(oracle: Oracle) -> None:
    rng = random.Random(2)
    cases = []
    for _ in range(ROUNDS):
        devices = drawn(rng)
        free = max([d.free_bytes for d in devices], default=GIB)
        system = rules.SystemMemory(64 * GIB, rng.choice([0, rng.randrange(64 * GIB), max(free, 1) - 1, free + 1]))
        options = RunOptions(num_gpu=rng.choice([-1, -1, 0, 10]), main_gpu=rng.choice([None, None, 0, 1, 2, -1]))
        spread = rng.choice(["", "1"])
        cases.append((devices, near(rng, free), options, spread, system))
    answers = oracle.ask(
        {
            "op": "placement", "Devices": told(d), "Predicted": p, "NumGPU": o.num_gpu, "MainGPU": o.main_gpu,
            "SystemFree": m.free_bytes, "SystemTotal": m.total_bytes, "Env": {"OLLAMA_SCHED_SPREAD": s},
        }
        for d, p, o, s, m in cases
    )  # fmt: skip
    for (devices, predicted, options, spread, system), answer in zip(cases, answers, strict=True):
        chosen, main_gpu = placement.select_devices(
            devices, predicted, options, {"OLLAMA_SCHED_SPREAD": spread}, system
        )
        assert [d.name for d in chosen] == answer["devices"], (devices, predicted, options)
        assert main_gpu == answer["main_gpu"]
        placed = chosen[main_gpu : main_gpu + 1] if main_gpu is not None and 0 <= main_gpu < len(chosen) else chosen
        assert placement.available_bytes(placed, system) == answer["available"]


@pytest.mark.go
@pytest.mark.slow
def test_ollama_itself_switches_mmap_off_for_the_same_reason(oracle: Oracle) -> None:
    rng = random.Random(3)
    cases = []
    for _ in range(ROUNDS):
        devices = drawn(rng)
        available = rng.choice([0, rng.randrange(1, 48 * GIB)])
        file = rng.choice([0, rng.randrange(1, 40 * GIB)])
        total = rng.choice([0, 16 * GIB, 128 * GIB])
        system = rules.SystemMemory(
            total, rng.choice([0, near(rng, file + 8 * 1000**3), near(rng, file + total // 10)])
        )
        options = RunOptions(num_gpu=rng.choice([-1, 0, 10, 37]), use_mmap=rng.choice([None, None, None, True, False]))
        cases.append(
            (devices, near(rng, available), available, file, system, options, rng.choice(["linux", "windows"]))
        )
    answers = oracle.ask(
        {
            "op": "mmap", "Devices": told(d), "Predicted": p, "Available": a, "File": f, "SystemFree": m.free_bytes,
            "SystemTotal": m.total_bytes, "NumGPU": o.num_gpu, "UseMmap": o.use_mmap, "Goos": s, "Layers": 37,
        }
        for d, p, a, f, m, o, s in cases
    )  # fmt: skip
    seen = set()
    for (devices, predicted, available, file, system, options, os), answer in zip(cases, answers, strict=True):
        model = replace(PLAIN, file_bytes=file)
        why = placement.mmap_switched_off(model, options, devices, predicted, available, system, os=os)
        assert (why or "") == answer["why"], (devices, predicted, available, file, system, options, os)
        seen.add(why)
    assert {"cpu", "windows_cuda", "metal_partial_offload", "host-pressure", None} <= seen


@pytest.mark.go
@pytest.mark.slow
def test_ollama_itself_sends_the_projector_to_the_same_place(oracle: Oracle) -> None:
    rng = random.Random(4)
    cases = [
        (drawn(rng), rng.choice([-1, 0, 1, 36, 37, 99]), near(rng, rng.choice([GIB, 7 * GIB])) + 1)
        for _ in range(ROUNDS)
    ]
    answers = oracle.ask(
        {"op": "projector", "Devices": told(d), "NumGPU": n, "Projector": p, "Layers": 37} for d, n, p in cases
    )
    for (devices, num_gpu, projector), answer in zip(cases, answers, strict=True):
        model = replace(VISION, projector_bytes=projector)
        why = rules.projector_goes_to_cpu(model, num_gpu, devices)
        assert (why or "") == answer["reason"], (devices, num_gpu, projector)
        assert answer["target_mib"] == (0 if why else projector_fit_target_mib(projector))


@pytest.mark.go
@pytest.mark.slow
def test_ollama_itself_sets_flash_attention_so(oracle: Oracle) -> None:
    rng = random.Random(5)
    words = ["auto", "enabled", "disabled"]
    cases = [(drawn(rng), rng.choice(["", "", "1", "0", "true", "False", "x", " '1' "])) for _ in range(ROUNDS)]
    answers = oracle.ask({"op": "flash", "Devices": told(d), "Env": {"OLLAMA_FLASH_ATTENTION": s}} for d, s in cases)
    for (devices, setting), answer in zip(cases, answers, strict=True):
        ours = rules.flash_attention(devices, {"OLLAMA_FLASH_ATTENTION": setting})
        assert dict(zip(("auto", "on", "off"), words, strict=True))[ours] == answer["mode"], (devices, setting)


@pytest.mark.go
@pytest.mark.slow
def test_ollama_itself_predicts_the_same_size_from_the_same_header(
    oracle: Oracle, smollm: Path, tiny_qwen3vl: TinyModel, tiny_qwen25vl: TinyModel, tiny_qwen35: TinyModel
) -> None:
    files: list[tuple[Path, Path | None]] = [(smollm, None)]
    files += [(t.model, t.projector) for t in (tiny_qwen3vl, tiny_qwen25vl, tiny_qwen35)]
    cases = [(model, projector, ctx) for model, projector in files for ctx in (4, 4096, 262144)]
    answers = oracle.ask(
        {"op": "predict", "Text": str(m), "Folders": [str(p)] if p else [], "Ctx": c} for m, p, c in cases
    )
    for (model, projector, ctx), answer in zip(cases, answers, strict=True):
        header = read_header(model)
        vision = read_header(projector) if projector else None
        facts = model_facts(
            str(model),
            header.metadata,
            file_bytes=header.file_bytes,
            projector_path=str(projector) if projector else None,
            projector_bytes=vision.tensor_bytes if vision else 0,
        )
        ours = {
            "predicted": rules.predicted_vram_bytes(facts, ctx),
            "projector": facts.projector_bytes,
            "layers": facts.layers,
            "train": facts.train_ctx,
        }
        assert ours == answer, (model, ctx)
