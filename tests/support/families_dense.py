"""Published dense and mixture-of-experts models outside the Llama, Qwen and Gemma families, as ghosts.

Dimensions are those of the models' config.json; where a model is too large to load on the software device, "-small"
keeps its kinds of tensors and its ratios. Blocks by what each architecture's loader asks for (src/models, b10434).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from tests.support.dims import Dims
from tests.support.gguf_bytes import Row

Types = Callable[[str], str]
Keys = tuple[tuple[str, Any], ...]

EPSILON: Final[Keys] = (("attention.layer_norm_epsilon", 1e-5),)


def _norms(d: Dims, *names: str, biased: bool = False) -> list[Row]:
    rows: list[Row] = [(f"{name}.weight", (d.embedding,), "F32") for name in names]
    return rows + [(f"{name}.bias", (d.embedding,), "F32") for name in names if biased]


def _attention(d: Dims, w: Types) -> list[Row]:
    q, kv, e = d.head * d.heads, d.head * d.kv_heads, d.embedding
    rows: list[Row] = [
        ("attn_q.weight", (e, q), w("q")),
        ("attn_k.weight", (e, kv), w("q")),
        ("attn_v.weight", (e, kv), w("v")),
        ("attn_output.weight", (q, e), w("q")),
    ]
    if d.biased:
        rows += [("attn_q.bias", (q,), "F32"), ("attn_k.bias", (kv,), "F32"), ("attn_v.bias", (kv,), "F32")]
    return rows


def _joined(d: Dims, w: Types, *, biased: bool = False) -> list[Row]:
    q, all_three, e = d.head * d.heads, d.head * (d.heads + 2 * d.kv_heads), d.embedding
    rows: list[Row] = [("attn_qkv.weight", (e, all_three), w("q")), ("attn_output.weight", (q, e), w("q"))]
    if biased:
        rows += [("attn_qkv.bias", (all_three,), "F32"), ("attn_output.bias", (e,), "F32")]
    return rows


def _head_norms(d: Dims, *, heads: bool = False) -> list[Row]:
    """Norms of queries and keys, one for all heads or one for each."""
    sizes: list[tuple[str, tuple[int, ...]]] = [("q", (d.head,)), ("k", (d.head,))]
    if heads:
        sizes = [("q", (d.head, d.heads)), ("k", (d.head, d.kv_heads))]
    return [(f"attn_{which}_norm.weight", size, "F32") for which, size in sizes]


def _wide_norms(d: Dims) -> list[Row]:
    return [
        ("attn_q_norm.weight", (d.head * d.heads,), "F32"),
        ("attn_k_norm.weight", (d.head * d.kv_heads,), "F32"),
    ]


def _gated(d: Dims, w: Types) -> list[Row]:
    return [("ffn_gate.weight", (d.embedding, d.ffn), w("q")), *_plain(d, w)]


def _plain(d: Dims, w: Types, *, biased: bool = False, wide: int = 1) -> list[Row]:
    rows: list[Row] = [
        ("ffn_up.weight", (d.embedding, wide * d.ffn), w("q")),
        ("ffn_down.weight", (d.ffn, d.embedding), w("down")),
    ]
    if biased:
        rows += [("ffn_up.bias", (d.ffn,), "F32"), ("ffn_down.bias", (d.embedding,), "F32")]
    return rows


def _experts(d: Dims, w: Types, *, corrected: bool = False) -> list[Row]:
    e, wide, n = d.embedding, d.expert_ffn, d.experts
    rows: list[Row] = [
        ("ffn_gate_inp.weight", (e, n), "F32"),
        ("ffn_gate_exps.weight", (e, wide, n), w("q")),
        ("ffn_down_exps.weight", (wide, e, n), w("down")),
        ("ffn_up_exps.weight", (e, wide, n), w("q")),
    ]
    return [*rows, ("exp_probs_b.bias", (n,), "F32")] if corrected else rows


def _shared(d: Dims, w: Types) -> list[Row]:
    return [
        ("ffn_gate_shexp.weight", (d.embedding, d.shared_ffn), w("q")),
        ("ffn_up_shexp.weight", (d.embedding, d.shared_ffn), w("q")),
        ("ffn_down_shexp.weight", (d.shared_ffn, d.embedding), w("down")),
    ]


def _usual(d: Dims, w: Types, _: int) -> list[Row]:
    return _norms(d, "attn_norm", "ffn_norm") + _attention(d, w) + _gated(d, w)


def _qwen2moe(d: Dims, w: Types, _: int) -> list[Row]:
    rows = _norms(d, "attn_norm", "ffn_norm", "ffn_gate_inp_shexp") + _attention(d, w)
    return rows + _experts(d, w) + _shared(d, w)


def _olmo2(d: Dims, w: Types, _: int) -> list[Row]:
    return _norms(d, "post_attention_norm", "post_ffw_norm") + _wide_norms(d) + _attention(d, w) + _gated(d, w)


def _olmoe(d: Dims, w: Types, _: int) -> list[Row]:
    return _norms(d, "attn_norm", "ffn_norm") + _wide_norms(d) + _attention(d, w) + _experts(d, w)


def _command_r(d: Dims, w: Types, _: int) -> list[Row]:
    rows = _norms(d, "attn_norm") + _attention(d, w) + _gated(d, w)
    return rows + _head_norms(d, heads=True) if d.layers >= 64 else rows


def _phi2(d: Dims, w: Types, _: int) -> list[Row]:
    rows = _norms(d, "attn_norm", biased=True) + _attention(d, w) + _plain(d, w, biased=True)
    return [*rows, ("attn_output.bias", (d.embedding,), "F32")]


def _starcoder2(d: Dims, w: Types, _: int) -> list[Row]:
    rows = _norms(d, "attn_norm", "ffn_norm", biased=True) + _attention(d, w) + _plain(d, w, biased=True)
    return [*rows, ("attn_output.bias", (d.embedding,), "F32")]


def _nemotron(d: Dims, w: Types, _: int) -> list[Row]:
    return _norms(d, "attn_norm", "ffn_norm", biased=True) + _attention(d, w) + _plain(d, w)


def _arcee(d: Dims, w: Types, _: int) -> list[Row]:
    return _norms(d, "attn_norm", "ffn_norm") + _attention(d, w) + _plain(d, w)


def _stablelm(d: Dims, w: Types, _: int) -> list[Row]:
    rows = _norms(d, "attn_norm", biased=True) + _attention(d, w) + _gated(d, w)
    one_norm = d.head == 160  # the 12B
    return rows + (_head_norms(d, heads=True) if one_norm else _norms(d, "ffn_norm", biased=True))


def _falcon(d: Dims, w: Types, _: int) -> list[Row]:
    names = ("attn_norm", "attn_norm_2") if d.kv_heads > 1 else ("attn_norm",)
    return _norms(d, *names, biased=True) + _joined(d, w) + _plain(d, w)


def _gptneox(d: Dims, w: Types, _: int) -> list[Row]:
    return _norms(d, "attn_norm", "ffn_norm", biased=True) + _joined(d, w, biased=True) + _plain(d, w, biased=True)


def _seed_oss(d: Dims, w: Types, _: int) -> list[Row]:
    return _norms(d, "attn_norm", "post_attention_norm") + _attention(d, w) + _gated(d, w)


def _hunyuan(d: Dims, w: Types, _: int) -> list[Row]:
    return _usual(d, w, 0) + _head_norms(d)


def _lead(d: Dims) -> int:
    return int(dict(d.more_keys)["leading_dense_block_count"])


def _ernie_moe(d: Dims, w: Types, i: int) -> list[Row]:
    if i < _lead(d):
        return _usual(d, w, i)
    rows = _norms(d, "attn_norm", "ffn_norm") + _attention(d, w)
    return rows + _experts(d, w, corrected=True) + _shared(d, w)


def _dots1(d: Dims, w: Types, i: int) -> list[Row]:
    if i < _lead(d):
        return _usual(d, w, i) + _head_norms(d)
    rows = _norms(d, "attn_norm", "ffn_norm") + _attention(d, w) + _head_norms(d)
    return rows + _experts(d, w, corrected=True) + _shared(d, w)


def _bailingmoe2(d: Dims, w: Types, i: int) -> list[Row]:
    rows = _norms(d, "attn_norm", "ffn_norm") + _joined(d, w) + _head_norms(d)
    if i < _lead(d):
        return rows + _gated(d, w)
    return rows + _experts(d, w, corrected=True) + _shared(d, w)


def _phimoe(d: Dims, w: Types, _: int) -> list[Row]:
    rows = _norms(d, "attn_norm", "ffn_norm", biased=True) + _attention(d, w) + _experts(d, w)
    return [*rows, ("attn_output.bias", (d.embedding,), "F32")]


def _chatglm(d: Dims, w: Types, _: int) -> list[Row]:
    rows = _norms(d, "attn_norm", "ffn_norm") + _joined(d, w) + _plain(d, w, wide=2)
    return [*rows, ("attn_qkv.bias", (d.head * (d.heads + 2 * d.kv_heads),), "F32")] if d.biased else rows


def _deci(d: Dims, w: Types, i: int) -> list[Row]:
    """Heads and feed-forward differ from block to block."""
    keys = dict(d.more_keys)
    heads, kv_heads, ffn = (
        keys[k][i] for k in ("attention.head_count", "attention.head_count_kv", "feed_forward_length")
    )
    here = replace(d, heads=heads, kv_heads=kv_heads, ffn=ffn)
    rows = _norms(d, "attn_norm") if heads else []
    if heads and kv_heads:
        rows += _attention(here, w)
    elif heads:
        rows += [("attn_output.weight", (d.embedding, d.embedding), w("q"))]
    return rows + _norms(d, "ffn_norm") + _gated(here, w) if ffn else rows


BLOCKS: dict[str, Callable[[Dims, Types, int], list[Row]]] = {
    "arcee": _arcee,
    "bailingmoe2": _bailingmoe2,
    "chatglm": _chatglm,
    "command-r": _command_r,
    "deci": _deci,
    "dots1": _dots1,
    "ernie4_5": _usual,
    "ernie4_5-moe": _ernie_moe,
    "falcon": _falcon,
    "gemma": _usual,
    "gpt2": _gptneox,
    "gptneox": _gptneox,
    "hunyuan-dense": _hunyuan,
    "internlm2": _usual,
    "minicpm": _usual,
    "nemotron": _nemotron,
    "olmo2": _olmo2,
    "olmoe": _olmoe,
    "phi2": _phi2,
    "phimoe": _phimoe,
    "qwen2moe": _qwen2moe,
    "seed_oss": _seed_oss,
    "smollm3": _usual,
    "stablelm": _stablelm,
    "starcoder2": _starcoder2,
}

_BIASED_NORM = frozenset({"phi2", "starcoder2", "nemotron", "stablelm", "falcon", "gptneox", "gpt2", "phimoe"})
_BIASED_HEAD = frozenset({"phi2", "phimoe"})


def more_ends(d: Dims) -> list[Row]:
    """Tensors outside the blocks beside embedding, output norm and head."""
    rows: list[Row] = []
    if d.architecture in _BIASED_NORM:
        rows.append(("output_norm.bias", (d.embedding,), "F32"))
    if d.architecture in _BIASED_HEAD:
        rows.append(("output.bias", (d.vocabulary,), "F32"))
    if d.architecture == "gpt2":
        rows.append(("position_embd.weight", (d.embedding, d.context), "F32"))
    return rows


def _deci_keys() -> Keys:
    """Ten blocks in the manner of Llama 3.3 Nemotron Super 49B, with one of each odd kind."""
    heads = [16, 16, 0, 16, 16, 0, 16, 16, 16, 16]
    kv_heads = [4, 4, 0, 2, 0, 0, 4, 4, 4, 4]
    ffn = [5632, 2816, 5632, 5632, 8192, 2816, 5632, 5632, 5632, 5632]
    return (("attention.head_count", heads), ("attention.head_count_kv", kv_heads), ("feed_forward_length", ffn))


_LING: Keys = (
    ("leading_dense_block_count", 1),
    ("expert_shared_count", 1),
    ("expert_weights_scale", 2.5),
    ("expert_weights_norm", True),
    ("expert_gating_func", 2),
    ("expert_group_count", 8),
    ("expert_group_used_count", 4),
)
_DOTS: Keys = (
    ("leading_dense_block_count", 1),
    ("expert_shared_count", 2),
    ("expert_weights_scale", 2.5),
    ("expert_weights_norm", True),
    ("expert_gating_func", 2),
)
_ERNIE: Keys = (("leading_dense_block_count", 1), ("interleave_moe_layer_step", 1), ("expert_shared_count", 2))
_GRANITE: Keys = (
    ("logit_scale", 8.0),
    ("residual_scale", 0.22),
    ("embedding_scale", 12.0),
    ("attention.scale", 0.015625),
)
_LONG_AND_SHORT = ("rope_factors_long", "rope_factors_short")


def _mixture(experts: int, used: int, wide: int, shared: int = 0) -> dict[str, Any]:
    return {"experts": experts, "experts_used": used, "expert_ffn": wide, "shared_ffn": shared}


TEXT: dict[str, Dims] = {
    "mixtral-8x7b": Dims("llama", 32, 4096, 32, 8, 128, 14336, 32000, context=32768, **_mixture(8, 2, 14336)),
    "qwen1.5-moe-a2.7b": Dims(
        "qwen2moe", 24, 2048, 16, 16, 128, 5632, 151936, context=8192, biased=True, **_mixture(60, 4, 1408, 5632)
    ),
    "olmo-2-1b": Dims("olmo2", 16, 2048, 16, 16, 128, 8192, 100352, context=4096),
    "olmo-3-7b": Dims(
        "olmo2", 32, 4096, 32, 32, 128, 11008, 100278, context=65536, more_keys=(("attention.sliding_window", 4096),)
    ),
    "olmoe-1b-7b": Dims("olmoe", 16, 2048, 16, 16, 128, 1024, 50304, context=4096, **_mixture(64, 8, 1024)),
    "smollm3-3b": Dims("smollm3", 36, 2048, 16, 4, 128, 11008, 128256, tied=True, context=65536),
    "gemma-2b": Dims("gemma", 18, 2048, 8, 1, 256, 16384, 256000, tied=True, context=8192),
    "command-r-35b": Dims(
        "command-r", 40, 8192, 64, 64, 128, 22528, 256000, tied=True, context=131072,
        more_keys=(*EPSILON, ("logit_scale", 0.0625)),
    ),
    "phi-2": Dims("phi2", 32, 2560, 32, 32, 80, 10240, 51200, context=2048, biased=True, more_keys=EPSILON),
    "starcoder2-3b": Dims(
        "starcoder2", 30, 3072, 24, 2, 128, 12288, 49152, tied=True, context=16384, biased=True, more_keys=EPSILON
    ),
    "internlm2-1.8b": Dims("internlm2", 24, 2048, 16, 8, 128, 8192, 92544, context=32768),
    "minicpm-2b": Dims("minicpm", 40, 2304, 36, 36, 64, 5760, 122753, tied=True, context=4096),
    "stablelm-2-1.6b": Dims(
        "stablelm", 24, 2048, 32, 32, 64, 5632, 100352, context=4096, biased=True, more_keys=EPSILON
    ),
    "stablelm-2-12b": Dims("stablelm", 40, 5120, 32, 8, 160, 13824, 100352, context=4096, more_keys=EPSILON),
    "falcon-7b": Dims("falcon", 32, 4544, 71, 1, 64, 18176, 65024, context=2048, more_keys=EPSILON),
    "falcon-40b": Dims("falcon", 60, 8192, 128, 8, 64, 32768, 65024, context=2048, more_keys=EPSILON),
    "seed-oss-36b": Dims("seed_oss", 64, 5120, 80, 8, 128, 27648, 155136, context=524288, biased=True),
    "hunyuan-1.8b": Dims("hunyuan-dense", 32, 2048, 16, 4, 128, 6144, 120818, tied=True),
    "ernie-4.5-0.3b": Dims("ernie4_5", 18, 1024, 16, 2, 128, 3072, 103424, tied=True, context=131072),
    "ernie-4.5-21b-a3b": Dims(
        "ernie4_5-moe", 28, 2560, 20, 4, 128, 12288, 103424, tied=True, context=131072, more_keys=_ERNIE,
        **_mixture(64, 6, 1536, 3072),
    ),
    "dots.llm1": Dims(
        "dots1", 62, 4096, 32, 32, 128, 10944, 152064, context=32768, more_keys=_DOTS, **_mixture(128, 6, 1408, 2816)
    ),
    "ling-mini-2.0": Dims(
        "bailingmoe2", 20, 2048, 16, 4, 128, 5120, 157184, context=32768, more_keys=_LING, **_mixture(256, 8, 512, 512)
    ),
    "phi-3.5-moe": Dims(
        "phimoe", 32, 4096, 32, 8, 128, 6400, 32064, context=131072, biased=True, factors=_LONG_AND_SHORT,
        more_keys=(("rope.scaling.original_context_length", 4096),), **_mixture(16, 2, 6400),
    ),
    "pythia-1.4b": Dims(
        "gptneox", 24, 2048, 16, 16, 128, 8192, 50304, context=2048,
        more_keys=(*EPSILON, ("use_parallel_residual", True)),
    ),
    "gpt2": Dims("gpt2", 12, 768, 12, 12, 64, 3072, 50257, tied=True, context=1024, more_keys=EPSILON),
    "minitron-4b": Dims("nemotron", 32, 3072, 24, 8, 128, 9216, 256000, context=4096, more_keys=EPSILON),
    "glm-edge-1.5b": Dims("chatglm", 28, 2048, 16, 4, 128, 6144, 59264, context=8192),
    "glm-4-9b-chat": Dims("chatglm", 40, 4096, 32, 2, 128, 13696, 151552, context=131072, biased=True),
    "afm-4.5b": Dims("arcee", 36, 2560, 20, 4, 128, 18432, 128004, context=65536),
    "granite-4-vision-small": Dims(
        "granite", 14, 1280, 20, 4, 64, 4096, 100352, tied=True, context=131072,
        more_keys=(*_GRANITE, ("deepstack_mapping", [-1, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1])),
    ),
    "deci-small": Dims("deci", 10, 2048, 16, 4, 128, 5632, 32000, context=131072, more_keys=_deci_keys()),
}  # fmt: skip
TEXT |= {
    "mixtral-small": replace(
        TEXT["mixtral-8x7b"], layers=8, embedding=1024, heads=8, kv_heads=2, ffn=3584, expert_ffn=3584
    ),
    "command-r-small": replace(TEXT["command-r-35b"], layers=12, embedding=1024, heads=8, kv_heads=8, ffn=2816),
    "command-r-plus-small": replace(
        TEXT["command-r-35b"], layers=64, embedding=512, heads=8, kv_heads=2, head=64, ffn=1408, vocabulary=32000
    ),
    "olmo-3-small": replace(
        TEXT["olmo-3-7b"], layers=12, embedding=1024, heads=8, kv_heads=8, ffn=2816, vocabulary=50000
    ),
    "olmoe-small": replace(TEXT["olmoe-1b-7b"], layers=8),
    "stablelm-2-12b-small": replace(TEXT["stablelm-2-12b"], layers=8, embedding=1280, heads=8, kv_heads=2, ffn=3456),
    "falcon-40b-small": replace(TEXT["falcon-40b"], layers=8, embedding=1024, heads=16, ffn=4096),
    "seed-oss-small": replace(
        TEXT["seed-oss-36b"], layers=12, embedding=1024, heads=16, kv_heads=2, ffn=5632, vocabulary=65024
    ),
    "ernie-moe-small": replace(
        TEXT["ernie-4.5-21b-a3b"],
        layers=8,
        embedding=1024,
        heads=8,
        kv_heads=2,
        ffn=4096,
        expert_ffn=512,
        shared_ffn=1024,
    ),
    "dots-small": replace(
        TEXT["dots.llm1"],
        layers=8,
        embedding=1024,
        heads=8,
        kv_heads=8,
        ffn=2816,
        experts=32,
        expert_ffn=352,
        shared_ffn=704,
        vocabulary=65024,
    ),
    "ling-small": replace(
        TEXT["ling-mini-2.0"], layers=8, embedding=1024, heads=8, kv_heads=2, ffn=2560, vocabulary=65024, experts=64
    ),
    "phi-moe-small": replace(
        TEXT["phi-3.5-moe"], layers=8, embedding=1024, heads=8, kv_heads=2, ffn=1600, expert_ffn=1600
    ),
    "gpt-neox-small": replace(
        TEXT["pythia-1.4b"],
        layers=10,
        embedding=1536,
        heads=12,
        kv_heads=12,
        ffn=6144,
        more_keys=(*EPSILON, ("use_parallel_residual", False)),
    ),
    "minitron-small": replace(
        TEXT["minitron-4b"], layers=10, embedding=1024, heads=8, kv_heads=2, ffn=4096, vocabulary=65024
    ),
    "afm-small": replace(TEXT["afm-4.5b"], layers=12, embedding=1280, heads=10, kv_heads=2, ffn=5120, vocabulary=65024),
    "qwen2moe-small": replace(TEXT["qwen1.5-moe-a2.7b"], layers=8, experts=16, vocabulary=65024),
    "smollm3-small": replace(
        TEXT["smollm3-3b"], layers=12, embedding=1024, heads=8, kv_heads=2, ffn=4096, vocabulary=65024
    ),
    "gemma-small": replace(TEXT["gemma-2b"], layers=6, embedding=1024, heads=4, ffn=8192, vocabulary=65024),
    "phi-2-small": replace(TEXT["phi-2"], layers=8, embedding=1024, heads=16, kv_heads=16, head=64, ffn=4096),
    "starcoder2-small": replace(TEXT["starcoder2-3b"], layers=8, embedding=1024, heads=8, ffn=4096),
    "minicpm-small": replace(
        TEXT["minicpm-2b"], layers=10, embedding=1152, heads=18, kv_heads=18, ffn=2880, vocabulary=65024
    ),
}
