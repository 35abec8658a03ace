"""Published embedders and rerankers, as ghosts: BERT and its kin, ModernBERT, EmbeddingGemma, decoders with a pooling.

Dimensions are those of the models' config.json; blocks by what each loader asks for (src/models, llama.cpp b10434).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from tests.support.dims import TEXT as FAMILIES
from tests.support.dims import Dims
from tests.support.gguf_bytes import Row

Types = Callable[[str], str]
Keys = tuple[tuple[str, Any], ...]

MEAN, CLS, LAST, RANK = 1, 2, 3, 4
_BERT: Final[Keys] = (
    ("attention.layer_norm_epsilon", 1e-12),
    ("attention.causal", False),
)


def _vectors(size: int, *names: str) -> list[Row]:
    return [(name, (size,), "F32") for name in names]


def _attention(d: Dims, w: Types) -> list[Row]:
    q, kv, e = d.head * d.heads, d.head * d.kv_heads, d.embedding
    rows: list[Row] = [
        ("attn_q.weight", (e, q), w("q")),
        ("attn_k.weight", (e, kv), w("q")),
        ("attn_v.weight", (e, kv), w("v")),
        ("attn_output.weight", (q, e), w("q")),
    ]
    if d.biased:
        rows += [
            *_vectors(q, "attn_q.bias"),
            *_vectors(kv, "attn_k.bias", "attn_v.bias"),
            *_vectors(e, "attn_output.bias"),
        ]
    return rows


def _ends_of_block(d: Dims) -> list[Row]:
    names = ("attn_output_norm", "layer_output_norm")
    return _vectors(d.embedding, *(f"{n}.{part}" for n in names for part in ("weight", "bias")))


def _bert(d: Dims, w: Types, _: int) -> list[Row]:
    return [
        *_attention(d, w),
        *_ends_of_block(d),
        ("ffn_up.weight", (d.embedding, d.ffn), w("q")),
        *_vectors(d.ffn, "ffn_up.bias"),
        ("ffn_down.weight", (d.ffn, d.embedding), w("down")),
        *_vectors(d.embedding, "ffn_down.bias"),
    ]


def _nomic(d: Dims, w: Types, _: int) -> list[Row]:
    return [
        ("attn_qkv.weight", (d.embedding, 3 * d.embedding), w("q")),
        ("attn_output.weight", (d.embedding, d.embedding), w("q")),
        *_ends_of_block(d),
        ("ffn_up.weight", (d.embedding, d.ffn), w("q")),
        ("ffn_gate.weight", (d.embedding, d.ffn), w("q")),
        ("ffn_down.weight", (d.ffn, d.embedding), w("down")),
    ]


def _nomic_moe(d: Dims, w: Types, i: int) -> list[Row]:
    rows: list[Row] = [
        ("attn_qkv.weight", (d.embedding, 3 * d.embedding), w("q")),
        *_vectors(3 * d.embedding, "attn_qkv.bias"),
        ("attn_output.weight", (d.embedding, d.embedding), w("q")),
        *_vectors(d.embedding, "attn_output.bias"),
        *_ends_of_block(d),
    ]
    if i % 2 == 0:
        return rows + _bert(d, w, i)[-4:]
    return [
        *rows,
        ("ffn_gate_inp.weight", (d.embedding, d.experts), "F32"),
        ("ffn_up_exps.weight", (d.embedding, d.ffn, d.experts), w("q")),
        ("ffn_down_exps.weight", (d.ffn, d.embedding, d.experts), w("down")),
    ]


def _jina(d: Dims, w: Types, _: int) -> list[Row]:
    rows = [*_attention(d, w), *_ends_of_block(d), *_vectors(d.embedding, "ffn_down.bias")]
    if d.vocabulary == _JINA_CODE:  # the code model norms queries and keys, and adds its input twice
        names = ("attn_q_norm", "attn_k_norm", "attn_norm_2")
        rows += _vectors(d.embedding, *(f"{n}.{part}" for n in names for part in ("weight", "bias")))
        rows += [("ffn_up.weight", (d.embedding, 2 * d.ffn), w("q"))]
    else:
        rows += [("ffn_up.weight", (d.embedding, d.ffn), w("q")), ("ffn_gate.weight", (d.embedding, d.ffn), w("q"))]
    return [*rows, ("ffn_down.weight", (d.ffn, d.embedding), w("down"))]


def _modern(d: Dims, w: Types, i: int) -> list[Row]:
    rows: list[Row] = [
        ("attn_qkv.weight", (d.embedding, 3 * d.embedding), w("q")),
        ("attn_output.weight", (d.embedding, d.embedding), w("q")),
        ("ffn_up.weight", (d.embedding, 2 * d.ffn), w("q")),
        ("ffn_down.weight", (d.ffn, d.embedding), w("down")),
        *_vectors(d.embedding, "ffn_norm.weight"),
    ]
    return rows + _vectors(d.embedding, "attn_norm.weight") if i else rows


def _gemma(d: Dims, w: Types, _: int) -> list[Row]:
    names = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
    return [
        *_vectors(d.embedding, *(f"{n}.weight" for n in names)),
        *_vectors(d.head, "attn_q_norm.weight", "attn_k_norm.weight"),
        *_attention(d, w),
        ("ffn_gate.weight", (d.embedding, d.ffn), w("q")),
        ("ffn_down.weight", (d.ffn, d.embedding), w("down")),
        ("ffn_up.weight", (d.embedding, d.ffn), w("q")),
    ]


EMBEDDER_BLOCKS: dict[str, Callable[[Dims, Types, int], list[Row]]] = {
    "bert": _bert,
    "gemma-embedding": _gemma,
    "jina-bert-v2": _jina,
    "jina-bert-v3": _bert,
    "modern-bert": _modern,
    "nomic-bert": _nomic,
    "nomic-bert-moe": _nomic_moe,
}
_NORMED_FIRST: Final = frozenset({"bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3"})
_PLACED: Final = frozenset({"bert"})


def embedder_ends(d: Dims, rows: list[Row]) -> list[Row]:
    """The tensors outside the blocks, from those that every ghost has."""
    a, e, keys = d.architecture, d.embedding, dict(d.more_keys)
    if a not in EMBEDDER_BLOCKS and "pooling_type" not in keys:
        return rows
    if a in _NORMED_FIRST:
        rows = [rows[0], *_vectors(e, "token_embd_norm.weight", "token_embd_norm.bias")]
        rows += [("token_types.weight", (e, keys["token_type_count"]), "F32")] if keys.get("token_type_count") else []
        rows += [("position_embd.weight", (e, d.context), "F32")] if a in _PLACED else []
    if a == "modern-bert":
        rows = [*rows, *_vectors(e, "token_embd_norm.weight")]
    if a == "gemma-embedding":
        rows = [*rows, ("dense_2.weight", (e, 4 * e), "F32"), ("dense_3.weight", (4 * e, e), "F32")]
    return rows + _classifier(d) if keys.get("pooling_type") == RANK else rows


def _classifier(d: Dims) -> list[Row]:
    """The head of a reranker."""
    e = d.embedding
    if d.architecture == "qwen3":
        return [("cls.output.weight", (e, 2), "F16")]
    if d.architecture == "jina-bert-v2":
        return [("cls.weight", (e, 1), "F32"), *_vectors(1, "cls.bias")]
    out: list[Row] = [("cls.output.weight", (e, 1), "F32"), *_vectors(1, "cls.output.bias")]
    if d.architecture == "modern-bert":
        return [("cls.weight", (e, e), "F32"), *_vectors(e, "cls.norm.weight"), *out]
    return [("cls.weight", (e, e), "F32"), *_vectors(e, "cls.bias"), *out]


def _bert_like(
    layers: int, embedding: int, heads: int, ffn: int, vocabulary: int, context: int, pooling: int, **more: Any
) -> Dims:
    keys = (*_BERT, ("pooling_type", pooling), ("token_type_count", more.pop("kinds", 2)), *more.pop("keys", ()))
    more = {"architecture": "bert", "biased": True, "tied": True, "kv_heads": heads, **more}
    return Dims(
        layers=layers,
        embedding=embedding,
        heads=heads,
        head=embedding // heads,
        ffn=ffn,
        vocabulary=vocabulary,
        context=context,
        more_keys=keys,
        **more,
    )


_JINA_CODE: Final = 61056
_MODERN: Final[Keys] = (("attention.sliding_window", 128), ("rope.freq_base_swa", 10000.0))


def _pooling(dims: Dims, pooling: int, **changed: Any) -> Dims:
    return replace(dims, more_keys=(*dims.more_keys, ("pooling_type", pooling)), **changed)


def _reranker(dims: Dims, **changed: Any) -> Dims:
    labelled = replace(dims, more_keys=(*dims.more_keys, ("classifier.output_labels", ["yes", "no"])))
    return _pooling(labelled, RANK, **changed)


EMBEDDERS: dict[str, Dims] = {
    "all-minilm-l6": _bert_like(6, 384, 12, 1536, 30522, 512, MEAN),
    "bge-base": _bert_like(12, 768, 12, 3072, 30522, 512, CLS),
    "mxbai-embed-large": _bert_like(24, 1024, 16, 4096, 30522, 512, CLS),
    "bge-m3": _bert_like(24, 1024, 16, 4096, 250002, 8192, CLS, kinds=1),
    "bge-reranker-v2-m3": _bert_like(24, 1024, 16, 4096, 250002, 8192, RANK, kinds=1),
    "nomic-embed-text": _bert_like(12, 768, 12, 3072, 30522, 2048, MEAN, architecture="nomic-bert", biased=False),
    "nomic-embed-text-v2-moe": _bert_like(
        12, 768, 12, 3072, 250048, 2048, MEAN, architecture="nomic-bert-moe", kinds=1, experts=8, experts_used=2,
        expert_ffn=3072, keys=(("moe_every_n_layers", 2),),
    ),
    "jina-embeddings-v2-base-en": _bert_like(12, 768, 12, 3072, 30528, 8192, MEAN, architecture="jina-bert-v2"),
    "jina-embeddings-v2-base-code": _bert_like(
        12, 768, 12, 3072, _JINA_CODE, 8192, MEAN, architecture="jina-bert-v2"
    ),
    "jina-reranker-v1-tiny-en": _bert_like(4, 384, 12, 1536, 30528, 8192, RANK, architecture="jina-bert-v2"),
    "jina-embeddings-v3": _bert_like(24, 1024, 16, 4096, 250002, 8192, MEAN, architecture="jina-bert-v3", kinds=1),
    "modernbert-embed-base": _bert_like(
        22, 768, 12, 1152, 50368, 8192, MEAN, architecture="modern-bert", biased=False, kinds=0, keys=_MODERN
    ),
    "gte-reranker-modernbert-base": _bert_like(
        22, 768, 12, 1152, 50368, 8192, RANK, architecture="modern-bert", biased=False, kinds=0, keys=_MODERN
    ),
    "embeddinggemma-300m": Dims(
        "gemma-embedding", 24, 768, 3, 1, 256, 1152, 262144, tied=True, context=2048,
        more_keys=(
            ("attention.sliding_window", 512), ("pooling_type", MEAN),
            ("dense_2_feat_in", 768), ("dense_2_feat_out", 3072), ("dense_3_feat_in", 3072), ("dense_3_feat_out", 768),
        ),
    ),
    "qwen3-embedding-0.6b": _pooling(FAMILIES["qwen3-0.6b"], LAST, vocabulary=151669, context=32768),
    "qwen3-reranker-0.6b": _reranker(FAMILIES["qwen3-0.6b"], vocabulary=151669, context=40960),
}  # fmt: skip
