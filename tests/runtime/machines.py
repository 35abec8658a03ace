"""Devices and models that the tests of the rules share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qwenops.machine.types import Device, Kind
from qwenops.runtime.facts import ModelFacts
from qwenops.units import GIB

LIBRARY = {"cuda": "CUDA", "rocm": "ROCm", "vulkan": "Vulkan", "metal": "Metal"}


def gpu(
    total: float = 8,
    free: float | None = None,
    kind: Kind = "cuda",
    name: str = "",
    integrated: bool = False,
    **more: Any,
) -> Device:
    free = total if free is None else free
    name = name or f"{LIBRARY[kind]}0"
    return Device(name, kind, name, int(total * GIB), int(free * GIB), **more)


MODEL = ModelFacts(
    path="/m.gguf",
    architecture="qwen3vl",
    file_bytes=5 * GIB,
    block_count=36,
    train_ctx=262144,
    head_count_max=32,
    head_count_kv_min=8,
    embedding_length=4096,
    family="qwen3vl",
    families=("qwen3vl",),
)
VISION = replace(MODEL, projector_path="/p.gguf", projector_bytes=1 * GIB, vision=True)
PLAIN = replace(MODEL, architecture="llama", family="llama", families=("llama",))
