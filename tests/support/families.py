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


def _gemma(d: Dims, w: Types) -> list[Row]:
    rows = _norms(d, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
    if d.architecture == "gemma3":
        rows += [("attn_q_norm.weight", (d.head,), "F32"), ("attn_k_norm.weight", (d.head,), "F32")]
    return rows + _attention(d, w) + _gated(d, w)


def _gpt_oss(d: Dims, w: Types) -> list[Row]:
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


def _phi3(d: Dims, w: Types) -> list[Row]:
    q, kv = d.head * d.heads, d.head * d.kv_heads
    return [
        *_norms(d, "attn_norm", "ffn_norm"),
        ("attn_qkv.weight", (d.embedding, q + 2 * kv), w("q")),
        ("attn_output.weight", (q, d.embedding), w("q")),
        ("ffn_up.weight", (d.embedding, 2 * d.ffn), w("q")),
        ("ffn_down.weight", (d.ffn, d.embedding), w("down")),
    ]


def _cohere2(d: Dims, w: Types) -> list[Row]:
    return _norms(d, "attn_norm") + _attention(d, w) + _gated(d, w)


BLOCKS: dict[str, Callable[[Dims, Types], list[Row]]] = {
    "gemma2": _gemma,
    "gemma3": _gemma,
    "gpt-oss": _gpt_oss,
    "phi3": _phi3,
    "cohere2": _cohere2,
}
