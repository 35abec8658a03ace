"""The tensors of one block, for the families whose blocks are not those of Llama or Qwen."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.dims import Dims
from tests.support.gguf_bytes import Row

Types = Callable[[str], str]
"""The type of a tensor by its role in the quantisation mix."""


def _norms(d: Dims, *names: str) -> list[Row]:
    return [(f"{name}.weight", (d.embedding,), "F32") for name in names]


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


def _gemma(d: Dims, w: Types, _: int) -> list[Row]:
    rows = _norms(d, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
    if d.architecture == "gemma3":
        rows += [("attn_q_norm.weight", (d.head,), "F32"), ("attn_k_norm.weight", (d.head,), "F32")]
    return rows + _attention(d, w) + _gated(d, w)


def _gpt_oss(d: Dims, w: Types, _: int) -> list[Row]:
    q, kv, e, wide, n = d.head * d.heads, d.head * d.kv_heads, d.embedding, d.expert_ffn, d.experts
    return [
        *_norms(d, "attn_norm", "post_attention_norm"),
        *_attention(d, w),
        ("attn_q.bias", (q,), "F32"),
        ("attn_k.bias", (kv,), "F32"),
        ("attn_v.bias", (kv,), "F32"),
        ("attn_output.bias", (e,), "F32"),
        ("attn_sinks.weight", (d.heads,), "F32"),
        ("ffn_gate_inp.weight", (e, n), "F32"),
        ("ffn_gate_inp.bias", (n,), "F32"),
        ("ffn_gate_exps.weight", (e, wide, n), w("experts")),
        ("ffn_gate_exps.bias", (wide, n), "F32"),
        ("ffn_down_exps.weight", (wide, e, n), w("experts")),
        ("ffn_down_exps.bias", (e, n), "F32"),
        ("ffn_up_exps.weight", (e, wide, n), w("experts")),
        ("ffn_up_exps.bias", (wide, n), "F32"),
    ]


def _phi3(d: Dims, w: Types, _: int) -> list[Row]:
    q, kv = d.head * d.heads, d.head * d.kv_heads
    return [
        *_norms(d, "attn_norm", "ffn_norm"),
        ("attn_qkv.weight", (d.embedding, q + 2 * kv), w("q")),
        ("attn_output.weight", (q, d.embedding), w("q")),
        ("ffn_up.weight", (d.embedding, 2 * d.ffn), w("q")),
        ("ffn_down.weight", (d.ffn, d.embedding), w("down")),
    ]


def _cohere2(d: Dims, w: Types, _: int) -> list[Row]:
    return _norms(d, "attn_norm") + _attention(d, w) + _gated(d, w)


def _experts(d: Dims, w: Types) -> list[Row]:
    e, wide, n = d.embedding, d.expert_ffn, d.experts
    return [
        ("ffn_gate_inp.weight", (e, n), "F32"),
        ("ffn_gate_exps.weight", (e, wide, n), w("q")),
        ("ffn_down_exps.weight", (wide, e, n), w("down")),
        ("ffn_up_exps.weight", (e, wide, n), w("q")),
    ]


def _shared(d: Dims, w: Types) -> list[Row]:
    return [
        ("ffn_gate_shexp.weight", (d.embedding, d.shared_ffn), w("q")),
        ("ffn_up_shexp.weight", (d.embedding, d.shared_ffn), w("q")),
        ("ffn_down_shexp.weight", (d.shared_ffn, d.embedding), w("down")),
    ]


def _qwen3next(d: Dims, w: Types, i: int) -> list[Row]:
    e = d.embedding
    rows = _norms(d, "attn_norm", "post_attention_norm")
    if (i + 1) % 4:
        conv = 2 * d.state * d.groups + d.inner
        rows += [
            ("attn_qkv.weight", (e, conv), w("q")),
            ("attn_gate.weight", (e, d.inner), w("q")),
            ("ssm_conv1d.weight", (4, conv), "F32"),
            ("ssm_dt.bias", (d.rank,), "F32"),
            ("ssm_a", (d.rank,), "F32"),
            ("ssm_ba.weight", (e, 2 * d.rank), w("q")),
            ("ssm_norm.weight", (d.state,), "F32"),
            ("ssm_out.weight", (d.inner, e), w("q")),
        ]
    else:
        _, k, v, out = _attention(d, w)
        rows += [("attn_q.weight", (e, 2 * d.head * d.heads), w("q")), k, v, out]
        rows += [("attn_q_norm.weight", (d.head,), "F32"), ("attn_k_norm.weight", (d.head,), "F32")]
    return [*rows, *_experts(d, w), ("ffn_gate_inp_shexp.weight", (e,), "F32"), *_shared(d, w)]


def _lfm2(d: Dims, w: Types, i: int) -> list[Row]:
    keys = dict(d.more_keys)
    rows = _norms(d, "attn_norm", "ffn_norm")
    if keys["attention.head_count_kv"][i]:
        rows += _attention(d, w)
        rows += [("attn_q_norm.weight", (d.head,), "F32"), ("attn_k_norm.weight", (d.head,), "F32")]
    else:
        rows += [
            ("shortconv.conv.weight", (keys["shortconv.l_cache"], d.embedding), "F32"),
            ("shortconv.in_proj.weight", (d.embedding, 3 * d.embedding), w("q")),
            ("shortconv.out_proj.weight", (d.embedding, d.embedding), w("q")),
        ]
    if d.experts and i >= keys["leading_dense_block_count"]:
        return [*rows, *_experts(d, w), ("exp_probs_b.bias", (d.experts,), "F32")]
    return rows + _gated(d, w)


BLOCKS: dict[str, Callable[[Dims, Types, int], list[Row]]] = {
    "gemma2": _gemma,
    "gemma3": _gemma,
    "gpt-oss": _gpt_oss,
    "phi3": _phi3,
    "cohere2": _cohere2,
    "qwen3next": _qwen3next,
    "lfm2": _lfm2,
    "lfm2moe": _lfm2,
}
