"""The tensors of the families that keep a state: their blocks, and what some of them have outside of blocks."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.dims import Dims
from tests.support.gguf_bytes import Row

Types = Callable[[str], str]

_SMALL = "F32"  # what llama-quantize leaves alone


def _vectors(*named: tuple[str, int]) -> list[Row]:
    return [(name, (size,), _SMALL) for name, size in named]


def _attention(d: Dims, w: Types) -> list[Row]:
    q, kv = d.head * d.heads, d.head * d.kv_heads
    return [
        ("attn_q.weight", (d.embedding, q), w("q")),
        ("attn_k.weight", (d.embedding, kv), w("q")),
        ("attn_v.weight", (d.embedding, kv), w("v")),
        ("attn_output.weight", (q, d.embedding), w("q")),
    ]


def _gated(d: Dims, w: Types) -> list[Row]:
    return [
        ("ffn_gate.weight", (d.embedding, d.ffn), w("q")),
        ("ffn_down.weight", (d.ffn, d.embedding), w("down")),
        ("ffn_up.weight", (d.embedding, d.ffn), w("q")),
    ]


def _experts(d: Dims, w: Types, *names: str) -> list[Row]:
    e, wide, n = d.embedding, d.expert_ffn, d.experts
    shapes = {"gate": (e, wide, n), "down": (wide, e, n), "up": (e, wide, n)}
    rows: list[Row] = [("ffn_gate_inp.weight", (e, n), _SMALL)]
    return rows + [(f"ffn_{x}_exps.weight", shapes[x], w("down" if x == "down" else "q")) for x in names]


def _shared(d: Dims, w: Types, *names: str) -> list[Row]:
    e, wide = d.embedding, d.shared_ffn
    return [(f"ffn_{x}_shexp.weight", (wide, e) if x == "down" else (e, wide), w("q")) for x in names]


def _mamba(d: Dims, w: Types) -> list[Row]:
    return [
        ("ssm_in.weight", (d.embedding, 2 * d.inner), w("q")),
        ("ssm_conv1d.weight", (4, d.inner), _SMALL),
        ("ssm_x.weight", (d.inner, d.rank + 2 * d.state), w("q")),
        ("ssm_dt.weight", (d.rank, d.inner), w("q")),
        ("ssm_a", (d.state, d.inner), _SMALL),
        *_vectors(("ssm_conv1d.bias", d.inner), ("ssm_dt.bias", d.inner), ("ssm_d", d.inner)),
        ("ssm_out.weight", (d.inner, d.embedding), w("q")),
    ]


def _mamba2(d: Dims, w: Types, *, normed: bool = True) -> list[Row]:
    conv = d.inner + 2 * d.groups * d.state
    rows: list[Row] = [
        ("ssm_in.weight", (d.embedding, d.inner + conv + d.rank), w("q")),
        ("ssm_conv1d.weight", (4, conv), _SMALL),
        *_vectors(("ssm_conv1d.bias", conv), ("ssm_dt.bias", d.rank)),
        ("ssm_a", (1, d.rank), _SMALL),
        ("ssm_d", (1, d.rank), _SMALL),
        ("ssm_out.weight", (d.inner, d.embedding), w("q")),
    ]
    return rows + ([("ssm_norm.weight", (d.inner // d.groups, d.groups), _SMALL)] if normed else [])


def _attends(d: Dims, i: int) -> bool:
    return bool(dict(d.more_keys)["attention.head_count_kv"][i])


def _granite_hybrid(d: Dims, w: Types, i: int) -> list[Row]:
    rows = _vectors(("attn_norm.weight", d.embedding), ("ffn_norm.weight", d.embedding))
    rows += _attention(d, w) if _attends(d, i) else _mamba2(d, w)
    if not d.experts:
        return rows + _gated(d, w)
    return rows + _experts(d, w, "gate", "down", "up") + _shared(d, w, "gate", "up", "down")


def _falcon_h1(d: Dims, w: Types, _: int) -> list[Row]:
    rows = _vectors(("attn_norm.weight", d.embedding), ("ffn_norm", d.embedding))
    return rows + _attention(d, w) + _mamba2(d, w, normed=False) + _gated(d, w)


def _jamba(d: Dims, w: Types, i: int) -> list[Row]:
    rows = _vectors(("attn_norm.weight", d.embedding), ("ffn_norm.weight", d.embedding))
    if _attends(d, i):
        rows += _attention(d, w)
    else:
        rows += _mamba(d, w)
        rows += _vectors(*((f"ssm_{x}_norm.weight", n) for x, n in (("dt", d.rank), ("b", d.state), ("c", d.state))))
    return rows + (_experts(d, w, "gate", "down", "up") if d.experts and i % 2 else _gated(d, w))


def _plamo2(d: Dims, w: Types, i: int) -> list[Row]:
    e, q, kv = d.embedding, d.head * d.heads, d.head * d.kv_heads
    rows = _vectors(*((name, e) for name in ("attn_norm.weight", "ffn_norm.weight")))
    rows += _vectors(*((name, e) for name in ("post_attention_norm", "post_ffw_norm")))
    rows += [("ffn_down.weight", (d.ffn, e), w("down")), ("ffn_up.weight", (e, 2 * d.ffn), w("q"))]
    if _attends(d, i):
        return [
            *rows,
            ("attn_qkv.weight", (e, q + 2 * kv), w("q")),
            ("attn_q_norm.weight", (d.head, d.heads), _SMALL),
            ("attn_k_norm.weight", (d.head, d.kv_heads), _SMALL),
            ("attn_output.weight", (q, e), w("q")),
        ]
    step = max(64, e // 16)
    small = [("ssm_dt_norm", step), ("ssm_b_norm", d.state), ("ssm_c_norm", d.state)]
    small += [(name, d.rank) for name in ("ssm_dt.bias", "ssm_a", "ssm_d")]
    return [
        *rows,
        *_vectors(*small),
        ("ssm_in.weight", (e, 2 * d.inner), w("q")),
        ("ssm_conv1d.weight", (4, d.inner), _SMALL),
        ("ssm_x.weight", (d.inner, step + 2 * d.state), w("q")),
        ("ssm_dt.weight", (step, d.rank), w("q")),
        ("ssm_out.weight", (d.inner, e), w("q")),
    ]


def _nemotron_h(d: Dims, w: Types, i: int) -> list[Row]:
    rows = _vectors(("attn_norm.weight", d.embedding))
    if _attends(d, i):
        return rows + _attention(d, w)
    if not dict(d.more_keys)["feed_forward_length"][i]:
        return rows + _mamba2(d, w)
    if not d.experts:
        return rows + _gated(d, w)[1:]
    return [
        *rows,
        *_experts(d, w, "down", "up"),
        *_vectors(("exp_probs_b.bias", d.experts)),
        *_shared(d, w, "down", "up"),
    ]


def _only_mamba(d: Dims, w: Types, _: int) -> list[Row]:
    rows = _vectors(("attn_norm.weight", d.embedding))
    return rows + (_mamba(d, w) if d.architecture == "mamba" else _mamba2(d, w))


def _both(d: Dims, *names: str) -> list[Row]:
    return _vectors(*((f"{name}.{part}", d.embedding) for name in names for part in ("weight", "bias")))


def _rwkv6(d: Dims, w: Types, _: int) -> list[Row]:
    keys, e = dict(d.more_keys), d.embedding
    extra, decay = keys["time_mix_extra_dim"], keys["time_decay_extra_dim"]
    rows = _both(d, "attn_norm", "attn_norm_2", "time_mix_ln")
    rows += [(f"time_mix_{x}.weight", (e, e), w("q")) for x in ("key", "value", "receptance", "gate", "output")]
    return [
        *rows,
        ("time_mix_w1.weight", (e, 5 * extra), _SMALL),
        ("time_mix_w2.weight", (extra, e, 5), _SMALL),
        ("time_mix_lerp_x.weight", (e, 1, 1), _SMALL),
        ("time_mix_lerp_fused.weight", (e, 1, 1, 5), _SMALL),
        ("time_mix_first.weight", (64, e // 64), _SMALL),
        ("time_mix_decay.weight", (e,), _SMALL),
        ("time_mix_decay_w1.weight", (e, decay), _SMALL),
        ("time_mix_decay_w2.weight", (decay, e), _SMALL),
        ("channel_mix_lerp_k.weight", (e, 1, 1), _SMALL),
        ("channel_mix_lerp_r.weight", (e, 1, 1), _SMALL),
        ("channel_mix_key.weight", (e, d.ffn), w("q")),
        ("channel_mix_value.weight", (d.ffn, e), w("q")),
        ("channel_mix_receptance.weight", (e, e), w("q")),
    ]


def _time_mix7(d: Dims, w: Types, i: int) -> list[Row]:
    keys, e = dict(d.more_keys), d.embedding
    decay, iclr = keys["attention.decay_lora_rank"], keys["attention.iclr_lora_rank"]
    value = keys["attention.value_residual_mix_lora_rank"] if i else iclr
    gate = keys.get("attention.gate_lora_rank", 0)
    rows = _vectors(*((f"time_mix_{x}.weight", e) for x in ("w0", "a0", "v0", "k_k", "k_a", "r_k")))
    for x, n in (("w", decay), ("a", iclr), ("v", value), ("g", gate)):
        if n:
            rows += [(f"time_mix_{x}1.weight", (e, n), _SMALL), (f"time_mix_{x}2.weight", (n, e), _SMALL)]
    rows += [("time_mix_lerp_fused.weight", (e, 1, 1, 6 if gate else 5), _SMALL)]
    return rows + [(f"time_mix_{x}.weight", (e, e), w("q")) for x in ("key", "value", "receptance", "output")]


def _rwkv7(d: Dims, w: Types, i: int) -> list[Row]:
    return [
        *_both(d, "attn_norm", "attn_norm_2", "time_mix_ln"),
        *_time_mix7(d, w, i),
        ("channel_mix_lerp_k.weight", (d.embedding, 1, 1), _SMALL),
        ("channel_mix_key.weight", (d.embedding, d.ffn), w("q")),
        ("channel_mix_value.weight", (d.ffn, d.embedding), w("q")),
    ]


def _rwkv6_on_qwen(d: Dims, w: Types, _: int) -> list[Row]:
    keys, e = dict(d.more_keys), d.embedding
    extra, decay, kv = keys["time_mix_extra_dim"], keys["time_decay_extra_dim"], keys["attention.head_count_kv"]
    width = kv * keys["wkv.head_size"]
    return [
        *_vectors(("attn_norm.weight", e), ("ffn_norm.weight", e), ("time_mix_decay.weight", e)),
        ("time_mix_w1.weight", (e, 5 * extra), _SMALL),
        ("time_mix_w2.weight", (extra, e, 5), _SMALL),
        ("time_mix_lerp_x.weight", (e, 1, 1), _SMALL),
        ("time_mix_lerp_fused.weight", (e, 1, 1, 5), _SMALL),
        ("time_mix_decay_w1.weight", (e, decay), _SMALL),
        ("time_mix_decay_w2.weight", (decay, e), _SMALL),
        ("time_mix_key.weight", (e, width), w("q")),
        ("time_mix_value.weight", (e, width), w("q")),
        *((f"time_mix_{x}.weight", (e, e), w("q")) for x in ("receptance", "gate", "output")),
        *_vectors(("time_mix_key.bias", width), ("time_mix_value.bias", width), ("time_mix_receptance.bias", e)),
        *_gated(d, w),
    ]


def _rwkv7_on_qwen(d: Dims, w: Types, i: int) -> list[Row]:
    norms = _vectors(("attn_norm.weight", d.embedding), ("ffn_norm.weight", d.embedding))
    return [*norms, *_time_mix7(d, w, i), *_gated(d, w)]


RECURRENT_BLOCKS: dict[str, Callable[[Dims, Types, int], list[Row]]] = {
    "granitehybrid": _granite_hybrid,
    "falcon-h1": _falcon_h1,
    "jamba": _jamba,
    "plamo2": _plamo2,
    "nemotron_h": _nemotron_h,
    "nemotron_h_moe": _nemotron_h,
    "mamba": _only_mamba,
    "mamba2": _only_mamba,
    "rwkv6": _rwkv6,
    "rwkv7": _rwkv7,
    "rwkv6qwen2": _rwkv6_on_qwen,
    "arwkv7": _rwkv7_on_qwen,
}


def _rwkv_ends(d: Dims, _: Types) -> list[Row]:
    return [*_both(d, "token_embd_norm"), *_vectors(("output_norm.bias", d.embedding))]


RECURRENT_ENDS: dict[str, Callable[[Dims, Types], list[Row]]] = {"rwkv6": _rwkv_ends, "rwkv7": _rwkv_ends}
