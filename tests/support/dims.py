"""The dimensions of published models, and of none: what the ghosts in shapes.py are made of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Dims:
    """Dimensions of a text model."""

    architecture: str
    layers: int
    embedding: int
    heads: int
    kv_heads: int
    head: int
    ffn: int
    vocabulary: int
    tied: bool = False
    context: int = 262144
    experts: int = 0
    experts_used: int = 0
    expert_ffn: int = 0
    shared_ffn: int = 0
    deepstack: int = 0
    inner: int = 0
    rank: int = 0
    groups: int = 16
    state: int = 128
    biased: bool = False
    draft_layers: int = 0
    more_keys: tuple[tuple[str, Any], ...] = ()
    factors: tuple[str, ...] = ()


@dataclass(frozen=True)
class VisionDims:
    """Dimensions of a projector."""

    kind: str
    hidden: int
    blocks: int
    heads: int
    ffn: int
    out: int
    patch: int = 16
    deepstack: tuple[int, ...] = field(default=())


def _qwen3(layers: int, embedding: int, heads: int, ffn: int, *, tied: bool, **more: Any) -> Dims:
    more = {"architecture": "qwen3", "kv_heads": 8, "head": 128, "vocabulary": 151936, **more}
    return Dims(layers=layers, embedding=embedding, heads=heads, ffn=ffn, tied=tied, **more)


def _qwen35(layers: int, embedding: int, heads: int, kv_heads: int, ffn: int, rank: int, **more: Any) -> Dims:
    more = {"architecture": "qwen35", "head": 256, "vocabulary": 248320, "inner": rank * 128, "rank": rank, **more}
    return Dims(layers=layers, embedding=embedding, heads=heads, kv_heads=kv_heads, ffn=ffn, **more)


def _qwen2(layers: int, embedding: int, heads: int, kv_heads: int, ffn: int, **more: Any) -> Dims:
    more = {"architecture": "qwen2", "head": embedding // heads, "vocabulary": 151936, "biased": True, **more}
    return Dims(layers=layers, embedding=embedding, heads=heads, kv_heads=kv_heads, ffn=ffn, **more)


def _gemma(number: int, layers: int, embedding: int, heads: int, kv_heads: int, ffn: int, **more: Any) -> Dims:
    keys: tuple[tuple[str, Any], ...] = (("attention.sliding_window", 4096),)
    if number == 2:
        keys += (("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0))
    more = {"vocabulary": 256000, "head": 256, "tied": True, "context": 8192, "more_keys": keys, **more}
    return Dims(f"gemma{number}", layers, embedding, heads, kv_heads, ffn=ffn, **more)


def _phi(layers: int, embedding: int, heads: int, kv_heads: int, head: int, ffn: int, **more: Any) -> Dims:
    long_and_short = ("rope_factors_long", "rope_factors_short")
    more = {"context": 131072, "more_keys": (("rope.scaling.original_context_length", 4096),), **more}
    return Dims("phi3", layers, embedding, heads, kv_heads, head, ffn, factors=long_and_short, **more)


_GRANITE = (("logit_scale", 8.0), ("residual_scale", 0.22), ("embedding_scale", 12.0), ("attention.scale", 0.015625))
_MINISTRAL = (("attention.temperature_scale", 0.1), ("rope.scaling.original_context_length", 16384))


def _lfm2(attention: tuple[int, ...], layers: int, kv_heads: int, **more: Any) -> Dims:
    each = [kv_heads if i in attention else 0 for i in range(layers)]
    keys = (("attention.head_count_kv", each), ("shortconv.l_cache", 3), *more.pop("keys", ()))
    more = {"architecture": "lfm2", "vocabulary": 65536, "tied": True, "context": 128000, **more}
    return Dims(layers=layers, kv_heads=kv_heads, head=64, more_keys=keys, **more)


def _window(tokens: int) -> tuple[tuple[str, Any], ...]:
    return (("attention.sliding_window", tokens),)


_VL3 = {"architecture": "qwen3vl", "deepstack": 3}
_MOE3 = {"experts": 128, "experts_used": 8, "kv_heads": 4, "tied": False}

TEXT: dict[str, Dims] = {
    "llama-3.2-1b": Dims("llama", 16, 2048, 32, 8, 64, 8192, 128256, tied=True, context=131072),
    "llama-3.2-3b": Dims("llama", 28, 3072, 24, 8, 128, 8192, 128256, tied=True, context=131072),
    "llama-3.1-8b": Dims("llama", 32, 4096, 32, 8, 128, 14336, 128256, context=131072),
    "mistral-7b": Dims("llama", 32, 4096, 32, 8, 128, 14336, 32768, context=32768),
    "smollm2-135m": Dims("llama", 30, 576, 9, 3, 64, 1536, 49152, tied=True, context=8192),
    "tinyllama-1.1b": Dims("llama", 22, 2048, 32, 4, 64, 5632, 32000, context=2048),
    "qwen2.5-0.5b": _qwen2(24, 896, 14, 2, 4864, tied=True),
    "qwen2.5-1.5b": _qwen2(28, 1536, 12, 2, 8960, tied=True),
    "qwen2.5-7b": _qwen2(28, 3584, 28, 4, 18944, vocabulary=152064),
    "qwen2-vl-2b": _qwen2(28, 1536, 12, 2, 8960, tied=True, architecture="qwen2vl"),
    "qwen2.5-vl-3b": _qwen2(36, 2048, 16, 2, 11008, tied=True, architecture="qwen2vl"),
    "qwen2.5-vl-7b": _qwen2(28, 3584, 28, 4, 18944, vocabulary=152064, architecture="qwen2vl"),
    "qwen2.5-vl-32b": _qwen2(64, 5120, 40, 8, 27648, vocabulary=152064, architecture="qwen2vl"),
    "qwen3-0.6b": _qwen3(28, 1024, 16, 3072, tied=True, context=40960),
    "qwen3-1.7b": _qwen3(28, 2048, 16, 6144, tied=True, context=40960),
    "qwen3-4b": _qwen3(36, 2560, 32, 9728, tied=True, context=40960),
    "qwen3-8b": _qwen3(36, 4096, 32, 12288, tied=False, context=40960),
    "qwen3-vl-2b": _qwen3(28, 2048, 16, 6144, tied=True, **_VL3),
    "qwen3-vl-4b": _qwen3(36, 2560, 32, 9728, tied=True, **_VL3),
    "qwen3-vl-8b": _qwen3(36, 4096, 32, 12288, tied=False, **_VL3),
    "qwen3-vl-32b": _qwen3(64, 5120, 64, 25600, tied=False, **_VL3),
    "qwen3-30b-a3b": _qwen3(48, 2048, 32, 6144, architecture="qwen3moe", expert_ffn=768, **_MOE3),
    "qwen3-vl-30b-a3b": _qwen3(48, 2048, 32, 6144, architecture="qwen3vlmoe", deepstack=3, expert_ffn=768, **_MOE3),
    "qwen3.5-0.8b": _qwen35(24, 1024, 8, 2, 3584, 16, tied=True),
    "qwen3.5-2b": _qwen35(24, 2048, 8, 2, 6144, 16, tied=True),
    "qwen3.5-4b": _qwen35(32, 2560, 16, 4, 9216, 32, tied=True),
    "qwen3.5-9b": _qwen35(32, 4096, 16, 4, 12288, 32),
    "qwen3.6-27b": _qwen35(64, 5120, 24, 4, 17408, 48),
    "qwen3.6-35b-a3b": _qwen35(
        40, 2048, 16, 2, 0, 32, architecture="qwen35moe", experts=256, experts_used=8, expert_ffn=512, shared_ffn=512
    ),
    "gemma-2-2b": _gemma(2, 26, 2304, 8, 4, 9216),
    "gemma-2-9b": _gemma(2, 42, 3584, 16, 8, 14336),
    "gemma-3-270m": _gemma(3, 18, 640, 4, 1, 2048, vocabulary=262144, context=32768, more_keys=_window(512)),
    "gemma-3-1b": _gemma(3, 26, 1152, 4, 1, 6912, vocabulary=262144, context=32768, more_keys=_window(512)),
    "gemma-3-4b": _gemma(3, 34, 2560, 8, 4, 10240, vocabulary=262208, context=131072, more_keys=_window(1024)),
    "gpt-oss-20b": Dims(
        "gpt-oss",
        24,
        2880,
        64,
        8,
        64,
        0,
        201088,
        context=131072,
        experts=32,
        experts_used=4,
        expert_ffn=2880,
        biased=True,
        more_keys=_window(128),
    ),
    "qwen3-next-80b-a3b": Dims(
        "qwen3next",
        48,
        2048,
        16,
        2,
        256,
        5120,
        151936,
        experts=512,
        experts_used=10,
        expert_ffn=512,
        shared_ffn=512,
        inner=4096,
        rank=32,
    ),
    "lfm2-350m": _lfm2((2, 5, 8, 10, 12, 14), 16, 8, embedding=1024, heads=16, ffn=4608),
    "lfm2-1.2b": _lfm2((2, 5, 8, 10, 12, 14), 16, 8, embedding=2048, heads=32, ffn=8192),
    "lfm2-8b-a1b": _lfm2(
        (2, 6, 10, 14, 18, 21),
        24,
        8,
        architecture="lfm2moe",
        embedding=2048,
        heads=32,
        ffn=7168,
        experts=32,
        experts_used=4,
        expert_ffn=1792,
        keys=(("leading_dense_block_count", 2), ("expert_gating_func", 2)),
    ),
    "phi-3.5-mini": _phi(32, 3072, 32, 32, 96, 8192, vocabulary=32064),
    "phi-4-mini": _phi(32, 3072, 24, 8, 128, 8192, vocabulary=200064, tied=True),
    "granite-3.3-2b": Dims("granite", 40, 2048, 32, 8, 64, 8192, 49159, tied=True, more_keys=_GRANITE),
    "granite-3.1-1b-a400m": Dims(
        "granitemoe",
        24,
        1024,
        16,
        8,
        64,
        512,
        49155,
        tied=True,
        experts=32,
        experts_used=8,
        expert_ffn=512,
        more_keys=_GRANITE,
    ),
    "ministral-3-3b": Dims("mistral3", 26, 3072, 32, 8, 128, 9216, 131072, tied=True, more_keys=_MINISTRAL),
    "command-r7b": Dims(
        "cohere2",
        32,
        4096,
        32,
        8,
        128,
        14336,
        256000,
        tied=True,
        more_keys=(*_window(4096), ("logit_scale", 0.25), ("attention.layer_norm_epsilon", 1e-5)),
    ),
}

# the same with heads and experts that the software device can hold
TEXT |= {
    "llama-3.2-1b-factors": replace(TEXT["llama-3.2-1b"], factors=("rope_freqs",)),
    "qwen3-next-small": replace(TEXT["qwen3-next-80b-a3b"], layers=8, vocabulary=32000, experts=64),
    "lfm2-moe-small": replace(TEXT["lfm2-8b-a1b"], experts=8),
    "command-r7b-small": replace(TEXT["command-r7b"], layers=8, vocabulary=32000),
    "gemma-2-2b-small-head": replace(TEXT["gemma-2-2b"], vocabulary=32000),
    "gemma-3-1b-small-head": replace(TEXT["gemma-3-1b"], vocabulary=65536),
    "gpt-oss-small": replace(TEXT["gpt-oss-20b"], layers=12, vocabulary=32000, experts=16, expert_ffn=1440),
}

VISION: dict[str, VisionDims] = {
    "qwen2-vl": VisionDims("qwen2vl_merger", 1280, 32, 16, 5120, 1536, patch=14),
    "qwen2.5-vl-3b": VisionDims("qwen2.5vl_merger", 1280, 32, 16, 3420, 2048, patch=14),
    "qwen2.5-vl-7b": VisionDims("qwen2.5vl_merger", 1280, 32, 16, 3420, 3584, patch=14),
    "qwen3-vl-2b": VisionDims("qwen3vl_merger", 1024, 24, 16, 4096, 2048, deepstack=(5, 11, 17)),
    "qwen3-vl-4b": VisionDims("qwen3vl_merger", 1024, 24, 16, 4096, 2560, deepstack=(5, 11, 17)),
    "qwen3-vl-8b": VisionDims("qwen3vl_merger", 1152, 27, 16, 4304, 4096, deepstack=(8, 16, 24)),
    "qwen3.5-0.8b": VisionDims("qwen3vl_merger", 768, 12, 12, 3072, 1024),
    "qwen3.5-2b": VisionDims("qwen3vl_merger", 1024, 24, 16, 4096, 2048),
    "qwen3.5-4b": VisionDims("qwen3vl_merger", 1024, 24, 16, 4096, 2560),
    "qwen3.5-9b": VisionDims("qwen3vl_merger", 1152, 27, 16, 4304, 4096),
}
