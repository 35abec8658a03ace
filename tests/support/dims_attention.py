"""Dimensions of published models whose caches or heads are not those of Llama."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.support.dims import Dims


def _pattern(layers: int, every: int) -> list[bool]:
    return [(i + 1) % every != 0 for i in range(layers)]


def _gemma4(layers: int, embedding: int, heads: int, kv_heads: int, ffn: int, every: int, **more: Any) -> Dims:
    window, per_layer, shared = more.pop("window", 512), more.pop("per_layer", 256), more.pop("shared", 0)
    whole_kv, keys = more.pop("whole_kv", 0), more.pop("keys", ())
    sliding = _pattern(layers, every)
    keys = (
        ("attention.sliding_window", window),
        ("attention.sliding_window_pattern", sliding),
        ("attention.key_length_swa", 256),
        ("attention.value_length_swa", 256),
        ("rope.dimension_count_swa", 256),
        ("attention.shared_kv_layers", shared),
        ("embedding_length_per_layer_input", per_layer),
        ("final_logit_softcapping", 30.0),
        *((("attention.head_count_kv", [kv_heads if s else whole_kv for s in sliding]),) if whole_kv else ()),
        *keys,
    )
    more = {"context": 131072, "tied": True, "factors": ("rope_freqs",), "vocabulary": 262144, **more}
    return Dims("gemma4", layers, embedding, heads, kv_heads, 512, ffn, more_keys=keys, **more)


_E2B_FFN = (("feed_forward_length", [6144] * 15 + [12288] * 20),)

_3N: dict[str, Any] = {
    "kv_heads": 2,
    "vocabulary": 262400,
    "context": 32768,
    "tied": True,
    "more_keys": (("attention.sliding_window", 512), ("final_logit_softcapping", 30.0)),
}


def _mla(layers: int, embedding: int, heads: int, ffn: int, vocabulary: int, **more: Any) -> Dims:
    """Keys and values kept as one row; `plain`, `turned` and `value` are what it is widened to."""
    plain, turned, value, rank = (more.pop(k) for k in ("plain", "turned", "value", "rank"))
    latent, keys, queries = more.pop("latent", True), more.pop("keys", ()), more.pop("queries", 0)
    shared = more.pop("shared", 1)
    mla = (("attention.key_length_mla", plain + turned), ("attention.value_length_mla", value))
    keys = (
        ("attention.kv_lora_rank", rank),
        ("attention.key_length", rank + turned if latent else plain + turned),
        ("attention.value_length", rank if latent else value),
        *(mla if latent else ()),
        ("rope.dimension_count", turned),
        *((("attention.q_lora_rank", queries),) if queries else ()),
        ("expert_shared_count", shared),
        *keys,
    )
    more["shared_ffn"] = shared * more["expert_ffn"]
    more = {"architecture": "deepseek2", "kv_heads": 1 if latent else heads, "head": plain + turned, **more}
    return Dims(layers=layers, embedding=embedding, heads=heads, ffn=ffn, vocabulary=vocabulary, more_keys=keys, **more)


_V2_LITE: dict[str, Any] = {
    "plain": 128, "turned": 64, "value": 128, "rank": 512, "context": 163840,
    "experts": 64, "experts_used": 6, "expert_ffn": 1408, "shared": 2,
    "keys": (("leading_dense_block_count", 1), ("expert_weights_scale", 1.0)),
}  # fmt: skip
_V3: dict[str, Any] = {
    "plain": 128, "turned": 64, "value": 128, "rank": 512, "queries": 1536, "context": 163840,
    "experts": 256, "experts_used": 8, "expert_ffn": 2048,
    "keys": (
        ("leading_dense_block_count", 3), ("expert_weights_scale", 2.5), ("expert_weights_norm", True),
        ("expert_gating_func", 2), ("expert_group_count", 8), ("expert_group_used_count", 4),
    ),
}  # fmt: skip
_GLM_FLASH: dict[str, Any] = {
    "plain": 192, "turned": 64, "value": 256, "rank": 512, "queries": 768, "context": 202752, "draft_layers": 1,
    "experts": 64, "experts_used": 4, "expert_ffn": 1536,
    "keys": (
        ("leading_dense_block_count", 1), ("expert_weights_scale", 1.8), ("expert_weights_norm", True),
        ("expert_gating_func", 2),
    ),
}  # fmt: skip

_FACTORS: tuple[str, ...] = ("rope_freqs",)
_HALF_TURNED: tuple[tuple[str, Any], ...] = (("rope.dimension_count", 64),)
_ROUTED: tuple[tuple[str, Any], ...] = (
    ("leading_dense_block_count", 1), ("expert_weights_scale", 2.5), ("expert_weights_norm", True),
    ("expert_gating_func", 2),
)  # fmt: skip


def _llama4(step: int, experts: int) -> Dims:
    keys = (("interleave_moe_layer_step", step),)
    return Dims(
        "llama4", 48, 5120, 40, 8, 128, 16384, 202048, factors=_FACTORS, experts=experts, experts_used=1,
        expert_ffn=8192, shared_ffn=8192, more_keys=keys,
    )  # fmt: skip


ATTENTION: dict[str, Dims] = {
    "exaone-4-1.2b": Dims("exaone4", 30, 2048, 32, 8, 64, 4096, 102400, tied=True, context=65536, factors=_FACTORS),
    "exaone-4-32b": Dims("exaone4", 64, 5120, 40, 8, 128, 27392, 102400, context=131072, factors=_FACTORS),
    "k-exaone-236b": Dims(
        "exaone-moe",
        48,
        6144,
        64,
        8,
        128,
        18432,
        153600,
        experts=128,
        experts_used=8,
        expert_ffn=2048,
        shared_ffn=2048,
        draft_layers=1,
        more_keys=(("attention.sliding_window", 128), *_ROUTED),
    ),
    "glm-4-9b": Dims("glm4", 40, 4096, 32, 2, 128, 13696, 151552, context=32768, more_keys=_HALF_TURNED),
    "glm-4-32b": Dims("glm4", 61, 6144, 48, 2, 128, 23040, 151552, context=32768, more_keys=_HALF_TURNED),
    "glm-ocr": Dims(
        "glm4",
        16,
        1536,
        16,
        8,
        128,
        4608,
        59392,
        draft_layers=1,
        more_keys=(("rope.dimension_sections", [16, 24, 24, 0]),),
    ),
    "glm-4.5-air": Dims(
        "glm4moe",
        46,
        4096,
        96,
        8,
        128,
        10944,
        151552,
        context=131072,
        experts=128,
        experts_used=8,
        expert_ffn=1408,
        shared_ffn=1408,
        draft_layers=1,
        biased=True,
        more_keys=(*_HALF_TURNED, *_ROUTED, ("expert_shared_count", 1)),
    ),
    "llama-4-scout": _llama4(1, 16),
    "llama-4-maverick": _llama4(2, 128),
    "deepseek-v2-lite": _mla(27, 2048, 16, 10944, 102400, **_V2_LITE),
    "deepseek-v2-lite-old": _mla(27, 2048, 16, 10944, 102400, latent=False, **_V2_LITE),
    "deepseek-v3": _mla(61, 7168, 128, 18432, 129280, **_V3),
    "glm-4.7-flash": _mla(47, 2048, 20, 10240, 154880, **_GLM_FLASH),
    "gemma-3n-e2b": Dims("gemma3n", 30, 2048, 8, head=256, ffn=8192, **_3N),
    "gemma-3n-e4b": Dims("gemma3n", 35, 2048, 8, head=256, ffn=16384, **_3N),
    "gemma-4-e2b": _gemma4(35, 1536, 8, 1, 6144, 5, shared=20, keys=_E2B_FFN),
    "gemma-4-e4b": _gemma4(42, 2560, 8, 2, 10240, 6, shared=18),
    "gemma-4-31b": _gemma4(60, 5376, 32, 16, 21504, 6, window=1024, per_layer=0, whole_kv=4, context=262144),
    "gemma-4-26b-a4b": _gemma4(
        30,
        2816,
        16,
        8,
        2112,
        6,
        window=1024,
        per_layer=0,
        whole_kv=2,
        context=262144,
        experts=128,
        experts_used=8,
        expert_ffn=704,
    ),
}

_MISTRAL4: dict[str, Any] = {
    "architecture": "mistral4", "plain": 64, "turned": 64, "value": 128, "rank": 256, "queries": 1024,
    "experts": 128, "experts_used": 4, "expert_ffn": 2048,
    "keys": (("expert_weights_scale", 1.0), ("expert_weights_norm", True), ("attention.temperature_scale", 0.1),
        ("attention.temperature_length", 8192), ("leading_dense_block_count", 0)),
}  # fmt: skip
ATTENTION["mistral-small-4"] = _mla(36, 4096, 32, 12288, 131072, **_MISTRAL4)

ATTENTION |= {
    "exaone-3.5-2.4b": Dims("exaone", 30, 2560, 32, 8, 80, 7168, 102400, tied=True, context=32768, factors=_FACTORS),
    "hunyuan-ocr": Dims(
        "hunyuan_vl", 24, 1024, 16, 8, 128, 3584, 120818, tied=True, context=32768,
        more_keys=(("rope.dimension_sections", [16, 16, 16, 16]),),
    ),
    "hunyuan-a13b": Dims(
        "hunyuan-moe", 32, 4096, 32, 8, 128, 3072, 128167, tied=True, context=32768, experts=64, experts_used=8,
        expert_ffn=3072, shared_ffn=3072,
    ),
    "minimax-m2": Dims(
        "minimax-m2", 62, 3072, 48, 8, 128, 1536, 200064, context=196608, experts=256, experts_used=8, expert_ffn=1536,
        more_keys=(*_HALF_TURNED, ("expert_gating_func", 2)),
    ),
}  # fmt: skip

# the same with heads and experts that the software device can hold
ATTENTION |= {
    "exaone-3.5-small": replace(ATTENTION["exaone-3.5-2.4b"], layers=12, vocabulary=32000),
    "hunyuan-ocr-small": replace(ATTENTION["hunyuan-ocr"], vocabulary=32000),
    "hunyuan-a13b-small": replace(
        ATTENTION["hunyuan-a13b"], layers=8, embedding=1024, heads=8, kv_heads=2, vocabulary=32000, experts=16,
        expert_ffn=512,
        ffn=512, shared_ffn=512,
    ),
    "minimax-m2-small": replace(
        ATTENTION["minimax-m2"], layers=10, embedding=1024, heads=16, kv_heads=4, vocabulary=32000, experts=16,
        expert_ffn=512,
        ffn=512,
    ),
    "exaone-4-1.2b-small": replace(ATTENTION["exaone-4-1.2b"], vocabulary=32000),
    "exaone-4-32b-small": replace(
        ATTENTION["exaone-4-32b"], embedding=1024, heads=8, kv_heads=2, ffn=2816, vocabulary=32000
    ),
    "k-exaone-small": replace(
        ATTENTION["k-exaone-236b"], layers=12, embedding=1024, heads=8, kv_heads=2, ffn=2816, vocabulary=32000,
        experts=16, expert_ffn=512, shared_ffn=512,
    ),
    "glm-4-9b-small": replace(ATTENTION["glm-4-9b"], layers=14, embedding=2048, heads=16, ffn=6144, vocabulary=32000),
    "glm-4.5-air-small": replace(
        ATTENTION["glm-4.5-air"], layers=12, embedding=1024, heads=24, kv_heads=2, ffn=2816, vocabulary=32000,
        experts=16, expert_ffn=512, shared_ffn=512,
    ),
    "llama-4-scout-small": replace(
        ATTENTION["llama-4-scout"], layers=12, embedding=1280, heads=10, kv_heads=2, vocabulary=32000,
        expert_ffn=1024, shared_ffn=1024,
    ),
    "llama-4-maverick-small": replace(
        ATTENTION["llama-4-maverick"], layers=12, embedding=1280, heads=10, kv_heads=2, vocabulary=32000, ffn=4096,
        expert_ffn=256, shared_ffn=256,
    ),
    "deepseek-v2-lite-small": replace(ATTENTION["deepseek-v2-lite"], vocabulary=32000, experts=8, ffn=5632),
    "deepseek-v2-lite-old-small": replace(ATTENTION["deepseek-v2-lite-old"], vocabulary=32000, experts=8, ffn=5632),
    "mistral-small-4-small": replace(
        ATTENTION["mistral-small-4"], layers=10, embedding=1024, ffn=4096, vocabulary=32000, experts=16,
        expert_ffn=512, shared_ffn=512,
    ),
    "deepseek-v3-small": replace(
        ATTENTION["deepseek-v3"], layers=10, embedding=1024, heads=16, ffn=4096, vocabulary=32000, experts=32,
        expert_ffn=512, shared_ffn=512,
    ),
    "glm-4.7-flash-small": replace(
        ATTENTION["glm-4.7-flash"], layers=20, vocabulary=32000, ffn=5120, experts=8, expert_ffn=1024, shared_ffn=1024
    ),
    "gemma-3n-e2b-small": replace(ATTENTION["gemma-3n-e2b"], vocabulary=32000),
    "gemma-3n-e4b-small": replace(ATTENTION["gemma-3n-e4b"], vocabulary=32000, ffn=8192),
    "gemma-4-e2b-small": replace(ATTENTION["gemma-4-e2b"], vocabulary=32000),
    "gemma-4-e4b-small": replace(ATTENTION["gemma-4-e4b"], vocabulary=32000),
    "gemma-4-26b-small": _gemma4(
        12, 2816, 16, 8, 2112, 6, window=1024, per_layer=0, whole_kv=2, vocabulary=32000, experts=16, experts_used=8,
        expert_ffn=704,
    ),
    "gemma-4-31b-small": _gemma4(12, 5376, 32, 16, 8192, 6, window=1024, per_layer=0, whole_kv=4, vocabulary=16000),
}  # fmt: skip
