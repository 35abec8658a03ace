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

_3N = {
    "kv_heads": 2,
    "vocabulary": 262400,
    "context": 32768,
    "tied": True,
    "more_keys": (("attention.sliding_window", 512), ("final_logit_softcapping", 30.0)),
}

ATTENTION: dict[str, Dims] = {
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

# the same with heads and experts that the software device can hold
ATTENTION |= {
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
