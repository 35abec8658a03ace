"""The dimensions of published models that keep a state: with attention in some blocks, or with none at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.support.dims import Dims

Keys = tuple[tuple[str, Any], ...]

# -- hybrids -----------------------------------------------------------------------------------------------------------


def _kv(layers: int, attention: tuple[int, ...], kv_heads: int) -> Keys:
    return (("attention.head_count_kv", [kv_heads if i in attention else 0 for i in range(layers)]),)


def _granite_h(layers: int, attention: tuple[int, ...], kv_heads: int, embedding: int, heads: int, **more: Any) -> Dims:
    scales: Keys = (
        ("logit_scale", 6.0),
        ("residual_scale", 0.22),
        ("embedding_scale", 12.0),
        ("attention.scale", 0.015625),
        ("rope.scaling.finetuned", False),
    )
    keys = (*scales, *_kv(layers, attention, kv_heads), *more.pop("keys", ()))
    more = {"vocabulary": 100352, "tied": True, "context": 131072, "ffn": 0, "groups": 1, **more}
    head = embedding // heads
    return Dims("granitehybrid", layers, embedding, heads, kv_heads, head, inner=2 * embedding, more_keys=keys, **more)


def _falcon_h1(layers: int, embedding: int, head: int, ffn: int, inner: int, **more: Any) -> Dims:
    more = {"heads": 8, "kv_heads": 2, "context": 262144, "groups": 1, **more}
    return Dims("falcon-h1", layers, embedding, head=head, ffn=ffn, inner=inner, rank=inner // 64, **more)


def _jamba(layers: int, attention: tuple[int, ...], kv_heads: int, embedding: int, rank: int, **more: Any) -> Dims:
    keys = (*_kv(layers, attention, kv_heads), *more.pop("keys", ()))
    sizes: dict[str, Any] = {"inner": 2 * embedding, "state": 16, "groups": 0, "rank": rank}
    more = {"vocabulary": 65536, "head": 128, "context": 262144, **sizes, **more}
    return Dims("jamba", layers, embedding, kv_heads=kv_heads, more_keys=keys, **more)


def _plamo2(layers: int, embedding: int, heads: int, kv_heads: int, ffn: int, **more: Any) -> Dims:
    attention = tuple(range(1, layers, 2))
    keys = (*_kv(layers, attention, kv_heads), ("attention.head_count", [heads * (i % 2) for i in range(layers)]))
    sizes: dict[str, Any] = {"inner": 2 * embedding, "rank": embedding // 64, "state": 64, "groups": 0}
    more = {"vocabulary": 100000, "tied": True, "context": 32768, "more_keys": keys, **sizes, **more}
    return Dims("plamo2", layers, embedding, heads, kv_heads, 128, ffn=ffn, **more)


def _nemotron_h(pattern: str, embedding: int, ffn: int, kv_heads: int, **more: Any) -> Dims:
    keys: Keys = (
        ("attention.head_count_kv", [kv_heads if kind == "*" else 0 for kind in pattern]),
        ("feed_forward_length", [ffn if kind in "-E" else 0 for kind in pattern]),
        ("attention.layer_norm_epsilon", 1e-5),
        *more.pop("keys", ()),
    )
    more = {"architecture": "nemotron_h", "vocabulary": 131072, "head": 128, "groups": 8, "context": 131072, **more}
    return Dims(layers=len(pattern), embedding=embedding, kv_heads=kv_heads, ffn=ffn, more_keys=keys, **more)


# -- no attention at all -----------------------------------------------------------------------------------------------


def _mamba(number: int, layers: int, embedding: int, **more: Any) -> Dims:
    inner = 2 * embedding
    first = {"architecture": "mamba", "state": 16, "groups": 0, "rank": -(-embedding // 16)}
    second = {"architecture": "mamba2", "state": 128, "groups": 1, "rank": inner // 64}
    more = {"vocabulary": 50280, "tied": True, "context": 1048576, **(first if number == 1 else second), **more}
    return Dims(layers=layers, embedding=embedding, heads=0, kv_heads=0, head=0, ffn=0, inner=inner, **more)


def _rwkv(architecture: str, layers: int, embedding: int, ffn: int, keys: Keys, **more: Any) -> Dims:
    keys = (("wkv.head_size", 64), ("attention.layer_norm_epsilon", 1e-5), *keys)
    more = {"vocabulary": 65536, "context": 1048576, **more}
    return Dims(architecture, layers, embedding, 0, 0, 0, ffn=ffn, more_keys=keys, **more)


def _rwkv6(layers: int, embedding: int, ffn: int, extra: int, decay: int) -> Dims:
    keys = (("time_mix_extra_dim", extra), ("time_decay_extra_dim", decay), ("rescale_every_n_layers", 6))
    return _rwkv("rwkv6", layers, embedding, ffn, keys)


def _rwkv7(layers: int, embedding: int, decay: int, value: int, gate: int, **more: Any) -> Dims:
    keys = (
        ("attention.decay_lora_rank", decay),
        ("attention.iclr_lora_rank", decay),
        ("attention.value_residual_mix_lora_rank", value),
        ("attention.gate_lora_rank", gate),
        *more.pop("keys", ()),
    )
    more = {"architecture": "rwkv7", "ffn": 4 * embedding, **more}
    return _rwkv(layers=layers, embedding=embedding, keys=keys, **more)


def _grafted(architecture: str, layers: int, embedding: int, ffn: int, keys: Keys, **more: Any) -> Dims:
    keys = (("token_shift_count", 1), *keys)
    return _rwkv(architecture, layers, embedding, ffn, keys, vocabulary=152064, **more)


_NANO_9B = "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-"
_NANO_30B = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
_TEN = (5, 15, 25, 35)

RECURRENT: dict[str, Dims] = {
    "granite-4.0-h-350m": _granite_h(32, (10, 13, 17, 27), 4, 768, 12, ffn=2048, rank=48),
    "granite-4.0-h-1b": _granite_h(40, _TEN, 4, 1536, 12, ffn=4096, rank=48),
    "granite-4.0-h-micro": _granite_h(40, _TEN, 8, 2048, 32, ffn=8192, rank=64),
    "granite-4.0-h-tiny": _granite_h(
        40, _TEN, 4, 1536, 12, rank=48, experts=64, experts_used=6, expert_ffn=512, shared_ffn=1024
    ),
    "falcon-h1-0.5b": _falcon_h1(36, 1024, 64, 2048, 1536, vocabulary=32784, context=16384),
    "falcon-h1-1.5b": _falcon_h1(24, 2048, 128, 4096, 3072, state=256, vocabulary=65537, context=131072),
    "jamba-reasoning-3b": _jamba(28, (7, 21), 1, 2560, 160, heads=20, ffn=8192, tied=True),
    "jamba-1.5-mini": _jamba(
        32, (4, 12, 20, 28), 8, 4096, 256, heads=32, ffn=14336, experts=16, experts_used=2, expert_ffn=14336
    ),
    "nemotron-nano-9b-v2": _nemotron_h(_NANO_9B, 4480, 15680, 8, heads=40, inner=10240, rank=128),
    "nemotron-3-nano-30b-a3b": _nemotron_h(
        _NANO_30B,
        2688,
        1856,
        2,
        architecture="nemotron_h_moe",
        heads=32,
        inner=4096,
        rank=64,
        experts=128,
        experts_used=6,
        expert_ffn=1856,
        shared_ffn=3712,
        keys=(("expert_weights_norm", True), ("expert_weights_scale", 2.5)),
    ),
    "plamo-2-1b": _plamo2(16, 2048, 16, 2, 8192),
    "mamba-130m": _mamba(1, 24, 768),
    "mamba-2.8b": _mamba(1, 64, 2560),
    "falcon-mamba-7b": _mamba(1, 64, 4096, vocabulary=65024, tied=False, more_keys=(("ssm.dt_b_c_rms", True),)),
    "mamba2-130m": _mamba(2, 24, 768, vocabulary=50288),
    "mamba2-1.3b": _mamba(2, 48, 2048, vocabulary=50288),
    "mamba-codestral-7b": _mamba(2, 64, 4096, vocabulary=32768, tied=False, groups=8),
    "rwkv6-world-1.6b": _rwkv6(24, 2048, 7168, 32, 64),
    "rwkv7-g1-0.1b": _rwkv7(12, 768, 64, 32, 128),
    "rwkv7-g1-1.5b": _rwkv7(24, 2048, 96, 64, 256),
    "qrwkv6-7b": _grafted(
        "rwkv6qwen2",
        28,
        3584,
        18944,
        (
            ("wkv.head_size", 128),
            ("attention.head_count_kv", 4),
            ("time_mix_extra_dim", 32),
            ("time_decay_extra_dim", 64),
        ),
    ),
    "arwkv7-7b": _grafted(
        "arwkv7",
        28,
        3584,
        18944,
        (
            ("attention.decay_lora_rank", 96),
            ("attention.iclr_lora_rank", 96),
            ("attention.value_residual_mix_lora_rank", 64),
        ),
    ),
}

# the same, small enough for the software device
RECURRENT |= {
    "granite-4.0-h-tiny-small": replace(RECURRENT["granite-4.0-h-tiny"], experts=8, vocabulary=32000),
    "jamba-mini-small": _jamba(
        16, (4, 12), 8, 1024, 64, heads=8, ffn=2048, experts=4, experts_used=2, expert_ffn=2048, vocabulary=32000
    ),
    "nemotron-nano-small": _nemotron_h(_NANO_9B[:28], 1024, 4096, 8, heads=16, inner=2560, rank=32, vocabulary=32000),
    "nemotron-3-nano-small": replace(
        RECURRENT["nemotron-3-nano-30b-a3b"], embedding=896, inner=2048, rank=32, experts=8, vocabulary=32000
    ),
    "codestral-small": _mamba(2, 12, 1024, vocabulary=32768, tied=False, groups=8),
    "qrwkv6-small": replace(RECURRENT["qrwkv6-7b"], layers=8, embedding=1024, ffn=4096, vocabulary=32000),
    "arwkv7-small": replace(RECURRENT["arwkv7-7b"], layers=8, embedding=1024, ffn=4096, vocabulary=32000),
    "falcon-mamba-small": _mamba(1, 12, 1024, vocabulary=32768, tied=False, more_keys=(("ssm.dt_b_c_rms", True),)),
}
