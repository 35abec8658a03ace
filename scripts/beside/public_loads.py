"""Loads that other people ran and published: what was loaded, how, and the buffers that their logs show, in MiB.

Weights are given only where the quantisation is llama-quantize's own mix, so that a ghost has the same. Where a load
had no device the buffers are the host's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qwenops.machine.types import Device, Kind
from qwenops.memory.types import LoadSettings
from qwenops.units import GIB

_HILBERTRAUM = "https://github.com/HilbertraumAI/HilbertRaum/blob/"
_SWEEP = _HILBERTRAUM + (
    "175efe3f7cfad8c55e8e7a2b371e58b61fb0b9f4/eval/results/hardware/i9-9900x-rtx-3090-24gb-128gb/issue399-arch-sweep-"
)
_PARTIAL = _HILBERTRAUM + (
    "5e07f43f8f587792aa948ea328f8d665588e67c9/eval/results/hardware/ryzen-7-5800h-rtx-3060-laptop-6gb-14gb/"
    "leg4-partial-9b.comment.md"
)
_MOTLIE = (
    "https://github.com/chungers/motlie/blob/6b1874ea3cf5ef0412f36530af532fcdb1ecfc90/evals/results/"
    "curated-v2-smoke/curated-v2-smoke-"
)
_SPARK = _MOTLIE + "1781131781834-3412429-0b8e8e5e-spark-2f6e-aarch64-cuda/failures/"
_MAC = _MOTLIE + "1781160252203-78445-99ac891d-mac-mini-m4pro-local-aarch64-metal/failures/"


@dataclass(frozen=True)
class PublicLoad:
    """One published load. `shape` or `vision` is empty where the log shows only the other; no `device` means the host.

    `mib` has the buffers by part: weights, cache (keys, values and recurrent state), compute, projector, encoder.
    """

    name: str
    runtime: str
    source: str
    settings: LoadSettings
    mib: Mapping[str, float]
    shape: str = ""
    vision: str = ""
    quant: str = "Q4_K_M"
    device: Device | None = None


def _card(kind: Kind, name: str) -> Device:
    return Device(f"{name}0", kind, "a card", 96 * GIB, 96 * GIB, source="--gpu")


_VULKAN, _CUDA, _METAL = _card("vulkan", "Vulkan"), _card("cuda", "CUDA"), _card("metal", "MTL")

PUBLIC_LOADS: tuple[PublicLoad, ...] = (
    PublicLoad(
        "Qwen3-8B Q4_K_M",
        "Vulkan, RTX 3090, b9849",
        _SWEEP + "qwen3-8b-instruct-q4.stderr.log",
        LoadSettings(num_ctx=8192, batch=2048, ubatch=2048),
        {"weights": 4455.34, "cache": 1152.0, "compute": 384.04},
        shape="qwen3-8b",
        device=_VULKAN,
    ),
    PublicLoad(
        "Qwen3.5-9B UD-Q4_K_XL, without its weights",
        "Vulkan, RTX 3090, b9849",
        _SWEEP + "qwen3.5-9b-ud-q4kxl.stderr.log",
        LoadSettings(num_ctx=8192, batch=2048, ubatch=2048),
        {"cache": 306.25, "compute": 416.16},
        shape="qwen3.5-9b",
        device=_VULKAN,
    ),
    PublicLoad(
        "Qwen3.5-9B UD-Q4_K_XL, without its weights",
        "Vulkan, RTX 3060 Laptop, b9849",
        _PARTIAL,
        LoadSettings(num_ctx=2048, parallel=4, kv_unified=True, batch=2048, ubatch=2048, gpu_layers=18),
        {"cache": 260.5, "compute": 498.0},
        shape="qwen3.5-9b",
        device=_VULKAN,
    ),
    PublicLoad(
        "Qwen3-4B Q4_K_M",
        "CUDA, GB10, June 2026",
        _SPARK + "12_qwen3_4b_gguf__chat_smoke__smoke__gguf_q4_k_m.md",
        LoadSettings(num_ctx=4096, batch=2048, ubatch=512, outputs="library"),
        {"weights": 2375.91, "cache": 576.0, "compute": 301.75},
        shape="qwen3-4b",
        device=_CUDA,
    ),
    PublicLoad(
        "Qwen3.6-27B Q4_K_M, without its weights",
        "CUDA, GB10, June 2026",
        _SPARK + "15_qwen3_6_27b_gguf__chat_smoke__smoke__gguf_q4_k_m.md",
        LoadSettings(num_ctx=32768, batch=2048, ubatch=512, outputs="library"),
        {"cache": 2197.62, "compute": 495.0},
        shape="qwen3.6-27b",
        device=_CUDA,
    ),
    PublicLoad(
        "Qwen3.6-27B Q4_K_M, without its weights",
        "Metal, M4 Pro, June 2026",
        _MAC + "qwen3_6_27b_gguf__chat_smoke__smoke__gguf_q4_k_m.log",
        LoadSettings(num_ctx=32768, batch=2048, ubatch=512, outputs="library"),
        {"cache": 2197.62, "compute": 495.0},
        shape="qwen3.6-27b",
        device=_METAL,
    ),
    PublicLoad(
        "Qwen3-VL-8B's projector F32",
        "CUDA, build not stated",
        "https://github.com/ggml-org/llama.cpp/issues/18181",
        LoadSettings(flash_attn="on"),
        {"projector": 2198.75, "encoder": 372.08},
        vision="qwen3-vl-8b",
        quant="F32",
        device=_CUDA,
    ),
    PublicLoad(
        "Qwen3.6's projector Q8_0, without its weights",
        "Vulkan, RX 6900 XT, build not stated",
        "a project's transcription of its logs, address not known",
        LoadSettings(flash_attn="on"),
        {"encoder": 248.10},
        vision="qwen3.5-9b",
        quant="Q8_0",
        device=_VULKAN,
    ),
    PublicLoad(
        "Qwen3.6's projector Q8_0, without its weights",
        "CUDA, P100, build not stated",
        "the same transcription",
        LoadSettings(flash_attn="off"),
        {"encoder": 4657.81},
        vision="qwen3.5-9b",
        quant="Q8_0",
        device=_CUDA,
    ),
    PublicLoad(
        "Mistral-7B-Instruct-v0.3 Q4_K_M",
        "CPU, Ollama of December 2025",
        "a project's transcription of its logs, address not known",
        LoadSettings(num_ctx=4096, flash_attn="off", gpu_layers=0),
        {"weights": 4169.52, "cache": 512.0, "compute": 300.01},
        shape="mistral-7b",
    ),
)
