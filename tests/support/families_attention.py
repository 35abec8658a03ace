"""The tensors of models whose caches or heads are not those of Llama: of a block, and of what belongs to none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.dims import Dims
from tests.support.gguf_bytes import Row

Types = Callable[[str], str]


def _of(d: Dims, key: str, default: Any = None) -> Any:
    return dict(d.more_keys).get(key, default)


def _norms(d: Dims, *names: str) -> list[Row]:
    return [(f"{name}.weight", (d.embedding,), "F32") for name in names]


def _gated(d: Dims, w: Types, ffn: int, end: str = "") -> list[Row]:
    return [
        (f"ffn_gate{end}.weight", (d.embedding, ffn), w("q")),
        (f"ffn_down{end}.weight", (ffn, d.embedding), w("down")),
        (f"ffn_up{end}.weight", (d.embedding, ffn), w("q")),
    ]


def _gemma4(d: Dims, w: Types, i: int) -> list[Row]:
    e, sliding = d.embedding, _of(d, "attention.sliding_window_pattern")[i]
    kv_list = _of(d, "attention.head_count_kv")
    head, kv_heads = 256 if sliding else 512, kv_list[i] if kv_list else d.kv_heads
    ffn = _of(d, "feed_forward_length", [d.ffn] * d.layers)[i]
    per_layer = _of(d, "embedding_length_per_layer_input")
    rows = _norms(d, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
    rows += [
        ("attn_q.weight", (e, head * d.heads), w("q")),
        ("attn_k.weight", (e, head * kv_heads), w("q")),
        ("attn_output.weight", (head * d.heads, e), w("q")),
        ("attn_q_norm.weight", (head,), "F32"),
        ("attn_k_norm.weight", (head,), "F32"),
        ("layer_output_scale.weight", (1,), "F32"),
        *_gated(d, w, ffn),
    ]
    if sliding or not kv_list:
        rows.append(("attn_v.weight", (e, head * kv_heads), w("v")))
    if per_layer:
        rows += [
            ("inp_gate.weight", (e, per_layer), w("q")),
            ("proj.weight", (per_layer, e), w("q")),
            *_norms(d, "post_norm"),
        ]
    if d.experts:
        rows += _norms(d, "pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2")
        rows += [
            ("ffn_gate_inp.weight", (e, d.experts), "F32"),
            ("ffn_gate_inp.scale", (e,), "F32"),
            ("ffn_gate_up_exps.weight", (e, 2 * d.expert_ffn, d.experts), w("q")),
            ("ffn_down_exps.weight", (d.expert_ffn, e, d.experts), w("down")),
            ("ffn_down_exps.scale", (d.experts,), "F32"),
        ]
    return rows


def _gemma4_ends(d: Dims, w: Types) -> list[Row]:
    per_layer = _of(d, "embedding_length_per_layer_input")
    if not per_layer:
        return []
    wide = per_layer * d.layers
    return [
        ("per_layer_token_embd.weight", (wide, d.vocabulary), w("embedding")),
        ("per_layer_model_proj.weight", (d.embedding, wide), "BF16"),
        ("per_layer_proj_norm.weight", (per_layer,), "F32"),
    ]


def _attention(d: Dims, w: Types) -> list[Row]:
    q, kv = d.head * d.heads, d.head * d.kv_heads
    return [
        ("attn_q.weight", (d.embedding, q), w("q")),
        ("attn_k.weight", (d.embedding, kv), w("q")),
        ("attn_v.weight", (d.embedding, kv), w("v")),
        ("attn_output.weight", (q, d.embedding), w("q")),
    ]


def _head_norms(d: Dims) -> list[Row]:
    return [(f"attn_{name}_norm.weight", (d.head,), "F32") for name in "qk"]


_STREAMS = 4


def _gemma3n(d: Dims, w: Types, _: int) -> list[Row]:
    e = d.embedding
    return [
        *_norms(d, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm", "post_norm"),
        *_norms(d, "altup_correct_scale", "altup_router_norm", "laurel_post_norm"),
        *_attention(d, w),
        *_head_norms(d),
        *_gated(d, w, d.ffn),
        ("inp_gate.weight", (e, 256), w("q")),
        ("proj.weight", (256, e), w("q")),
        ("altup_correct_coef.weight", (_STREAMS, _STREAMS), "F32"),
        ("altup_predict_coef.weight", (_STREAMS, _STREAMS * _STREAMS), "F32"),
        ("altup_router.weight", (e, _STREAMS), "F16"),
        ("laurel_l.weight", (e, 64), "F16"),
        ("laurel_r.weight", (64, e), "F16"),
    ]


def _gemma3n_ends(d: Dims, w: Types) -> list[Row]:
    wide, square = 256 * d.layers, (d.embedding, d.embedding, _STREAMS - 1)
    return [
        ("per_layer_token_embd.weight", (wide, d.vocabulary), w("embedding")),
        ("per_layer_model_proj.weight", (d.embedding, wide), "F16"),
        ("per_layer_proj_norm.weight", (256,), "F32"),
        ("altup_proj.weight", square, "F16"),
        ("altup_unembd_proj.weight", square, "F16"),
    ]


def _experts(d: Dims, w: Types, *, biased: bool = False) -> list[Row]:
    e, wide, n = d.embedding, d.expert_ffn, d.experts
    return [
        ("ffn_gate_inp.weight", (e, n), "F32"),
        ("ffn_gate_exps.weight", (e, wide, n), w("q")),
        ("ffn_down_exps.weight", (wide, e, n), w("down")),
        ("ffn_up_exps.weight", (e, wide, n), w("q")),
        *([("exp_probs_b.bias", (n,), "F32")] if biased else []),
        *(_gated(d, w, d.shared_ffn, "_shexp") if d.shared_ffn else []),
    ]


def _draft(d: Dims, w: Types, i: int) -> list[Row]:
    if i < d.layers:
        return []
    return [("nextn.eh_proj.weight", (2 * d.embedding, d.embedding), w("q")), *_norms(d, "nextn.enorm", "nextn.hnorm")]


def _mla(d: Dims, w: Types, i: int) -> list[Row]:
    e, heads, rank, turned = d.embedding, d.heads, _of(d, "attention.kv_lora_rank"), _of(d, "rope.dimension_count")
    latent, queries = _of(d, "attention.key_length_mla"), _of(d, "attention.q_lora_rank")
    head, plain = d.head, d.head - turned
    value = _of(d, "attention.value_length_mla") or _of(d, "attention.value_length")
    rows = [*_norms(d, "attn_norm", "ffn_norm"), ("attn_kv_a_norm.weight", (rank,), "F32")]
    if queries:
        rows += [
            ("attn_q_a.weight", (e, queries), w("q")),
            ("attn_q_a_norm.weight", (queries,), "F32"),
            ("attn_q_b.weight", (queries, heads * head), w("q")),
        ]
    else:
        rows.append(("attn_q.weight", (e, heads * head), w("q")))
    rows.append(("attn_kv_a_mqa.weight", (e, rank + turned), w("q")))
    if latent:
        rows += [
            ("attn_k_b.weight", (plain, rank, heads), w("q")),
            ("attn_v_b.weight", (rank, value, heads), w("q")),
        ]
    else:
        rows.append(("attn_kv_b.weight", (rank, heads * (plain + value)), w("q")))
    rows.append(("attn_output.weight", (heads * value, e), w("q")))
    if i < _of(d, "leading_dense_block_count"):
        return rows + _gated(d, w, d.ffn)
    return rows + _experts(d, w, biased=_of(d, "expert_gating_func") == 2) + _draft(d, w, i)


def _exaone4(d: Dims, w: Types, _: int) -> list[Row]:
    return [
        *_norms(d, "post_attention_norm", "post_ffw_norm"),
        *_attention(d, w),
        *_head_norms(d),
        *_gated(d, w, d.ffn),
    ]


def _exaone_moe(d: Dims, w: Types, i: int) -> list[Row]:
    rows = [*_norms(d, "attn_norm", "ffn_norm"), *_attention(d, w), *_head_norms(d)]
    if i < _of(d, "leading_dense_block_count") or i >= d.layers:
        return rows + _gated(d, w, d.ffn) + _draft(d, w, i)
    return rows + _experts(d, w, biased=True)


def _glm4(d: Dims, w: Types, i: int) -> list[Row]:
    return [
        *_norms(d, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"),
        *_attention(d, w),
        ("ffn_up.weight", (d.embedding, 2 * d.ffn), w("q")),
        ("ffn_down.weight", (d.ffn, d.embedding), w("down")),
        *_draft(d, w, i),
    ]


def _glm4moe(d: Dims, w: Types, i: int) -> list[Row]:
    q, kv = d.head * d.heads, d.head * d.kv_heads
    rows = [*_norms(d, "attn_norm", "post_attention_norm"), *_attention(d, w)]
    if d.biased:
        rows += [(f"attn_{n}.bias", (q if n == "q" else kv,), "F32") for n in "qkv"]
    if i < _of(d, "leading_dense_block_count"):
        return rows + _gated(d, w, d.ffn)
    return rows + _experts(d, w, biased=True) + _draft(d, w, i)


def _llama4(d: Dims, w: Types, i: int) -> list[Row]:
    rows = [*_norms(d, "attn_norm", "ffn_norm"), *_attention(d, w)]
    return rows + (_gated(d, w, d.ffn) if (i + 1) % _of(d, "interleave_moe_layer_step") else _experts(d, w))


def _exaone(d: Dims, w: Types, _: int) -> list[Row]:
    return [*_norms(d, "attn_norm", "ffn_norm"), *_attention(d, w), *_gated(d, w, d.ffn)]


def _hunyuan(d: Dims, w: Types, _: int) -> list[Row]:
    rows = [*_norms(d, "attn_norm", "ffn_norm"), *_attention(d, w), *_head_norms(d)]
    return rows + (_experts(d, w) if d.experts else _gated(d, w, d.ffn))


def _minimax(d: Dims, w: Types, _: int) -> list[Row]:
    wide = [(f"attn_{n}_norm.weight", (d.head * h,), "F32") for n, h in (("q", d.heads), ("k", d.kv_heads))]
    return [*_norms(d, "attn_norm", "ffn_norm"), *_attention(d, w), *wide, *_experts(d, w, biased=True)]


BLOCKS: dict[str, Callable[[Dims, Types, int], list[Row]]] = {
    "deepseek2": _mla,
    "exaone": _exaone,
    "exaone-moe": _exaone_moe,
    "exaone4": _exaone4,
    "gemma3n": _gemma3n,
    "gemma4": _gemma4,
    "glm4": _glm4,
    "glm4moe": _glm4moe,
    "hunyuan-moe": _hunyuan,
    "hunyuan_vl": _hunyuan,
    "llama4": _llama4,
    "minimax-m2": _minimax,
    "mistral4": _mla,
}
ENDS: dict[str, Callable[[Dims, Types], list[Row]]] = {"gemma3n": _gemma3n_ends, "gemma4": _gemma4_ends}
