"""Ghosts: GGUF files of real models' shapes, a true header and no data, so that they cost kilobytes and load for real.

    from tests.support.shapes import TEXT, write_text
    write_text(tmp_path / "m.gguf", TEXT["qwen3-vl-2b"], "Q4_K_M")

Dimensions are those of the published models; `Dims` can be changed with dataclasses.replace for shapes that nobody has
published. Types per tensor follow llama-quantize's mixes (src/llama-quant.cpp, b10435) where they decide sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwenops.model.types import Header, Model, Projector, Tensor
from tests.support.dims import TEXT, VISION, Dims, VisionDims
from tests.support.dims_attention import ATTENTION
from tests.support.dims_recurrent import RECURRENT
from tests.support.families import BLOCKS
from tests.support.families_attention import BLOCKS as ATTENTION_BLOCKS
from tests.support.families_attention import ENDS
from tests.support.families_dense import BLOCKS as DENSE_BLOCKS
from tests.support.families_dense import TEXT as DENSE
from tests.support.families_dense import more_ends
from tests.support.families_embedders import EMBEDDER_BLOCKS, EMBEDDERS, embedder_ends
from tests.support.families_recurrent import RECURRENT_BLOCKS, RECURRENT_ENDS
from tests.support.gguf_bytes import TYPES, Row, write_gguf

__all__ = ["TEXT", "VISION", "Dims", "VisionDims", "text_model", "vision_projector", "write_text", "write_vision"]

TEXT |= DENSE | EMBEDDERS
BLOCKS |= DENSE_BLOCKS | EMBEDDER_BLOCKS
TEXT |= ATTENTION | RECURRENT
BLOCKS |= ATTENTION_BLOCKS | RECURRENT_BLOCKS
ENDS |= RECURRENT_ENDS

FILE_TYPES = {
    "F32": 0,
    "F16": 1,
    "Q4_0": 2,
    "Q8_0": 7,
    "Q4_K_S": 14,
    "Q4_K_M": 15,
    "Q6_K": 18,
    "IQ4_XS": 30,
    "BF16": 32,
    "MXFP4": 38,
}


def text_tensors(d: Dims, quant: str) -> list[Row]:
    """Name, shape (innermost first) and type of every tensor."""
    a = d.architecture
    rows: list[Row] = [
        ("token_embd.weight", (d.embedding, d.vocabulary), _mix(quant, "output" if d.tied else "embedding", 0, 1)),
        ("token_embd_norm.weight" if a.startswith("lfm2") else "output_norm.weight", (d.embedding,), "F32"),
    ]
    if not d.tied:
        rows.append(("output.weight", (d.embedding, d.vocabulary), _mix(quant, "output", 0, 1)))
    rows += [(f"{name}.weight", (d.head // 2,), "F32") for name in d.factors]
    rows += more_ends(d)
    rows = embedder_ends(d, rows)
    if a in ENDS:
        rows += ENDS[a](d, lambda role: _mix(quant, role, 0, 1))
    for i in range(d.layers + d.draft_layers):
        rows.extend((f"blk.{i}.{name}", shape, type_) for name, shape, type_ in _block(d, quant, i))
    return [(n, s, _fallback(t, s[0])) for n, s, t in rows]


def _block(d: Dims, quant: str, i: int) -> list[Row]:
    e, hybrid = d.embedding, d.architecture.startswith("qwen35")

    def w(role: str) -> str:
        return _mix(quant, role, i, d.layers)

    if d.architecture in BLOCKS:
        return BLOCKS[d.architecture](d, w, i)
    second = "post_attention_norm" if hybrid else "ffn_norm"
    rows: list[Row] = [("attn_norm.weight", (e,), "F32"), (f"{second}.weight", (e,), "F32")]
    if hybrid and i < d.layers and (i + 1) % 4:
        conv = 2 * d.state * d.groups + d.inner
        rows += [
            ("attn_qkv.weight", (e, conv), w("q")),
            ("attn_gate.weight", (e, d.inner), w("q")),
            ("ssm_conv1d.weight", (4, conv), "F32"),
            ("ssm_dt.bias", (d.rank,), "F32"),
            ("ssm_a", (d.rank,), "F32"),
            ("ssm_beta.weight", (e, d.rank), w("q")),
            ("ssm_alpha.weight", (e, d.rank), w("q")),
            ("ssm_norm.weight", (d.state,), "F32"),
            ("ssm_out.weight", (d.inner, e), w("q")),
        ]
    else:
        q, kv = d.head * d.heads, d.head * d.kv_heads
        rows += [
            ("attn_q.weight", (e, q * (2 if hybrid else 1)), w("q")),
            ("attn_k.weight", (e, kv), w("q")),
            ("attn_v.weight", (e, kv), w("v")),
            ("attn_output.weight", (q, e), w("q")),
        ]
        if d.biased:
            rows += [("attn_q.bias", (q,), "F32"), ("attn_k.bias", (kv,), "F32"), ("attn_v.bias", (kv,), "F32")]
        if d.architecture.startswith("qwen3"):
            rows += [("attn_q_norm.weight", (d.head,), "F32"), ("attn_k_norm.weight", (d.head,), "F32")]
    if i >= d.layers:
        rows += [
            ("nextn.eh_proj.weight", (2 * e, e), w("q")),
            ("nextn.enorm.weight", (e,), "F32"),
            ("nextn.hnorm.weight", (e,), "F32"),
        ]
    if d.experts:
        rows += [
            ("ffn_gate_inp.weight", (e, d.experts), "F32"),
            ("ffn_gate_exps.weight", (e, d.expert_ffn, d.experts), w("q")),
            ("ffn_down_exps.weight", (d.expert_ffn, e, d.experts), w("down")),
            ("ffn_up_exps.weight", (e, d.expert_ffn, d.experts), w("q")),
        ]
        if d.shared_ffn:
            rows += [
                ("ffn_gate_inp_shexp.weight", (e,), "F32"),
                ("ffn_gate_shexp.weight", (e, d.shared_ffn), w("q")),
                ("ffn_up_shexp.weight", (e, d.shared_ffn), w("q")),
                ("ffn_down_shexp.weight", (d.shared_ffn, e), w("down")),
            ]
    else:
        rows += [
            ("ffn_gate.weight", (e, d.ffn), w("q")),
            ("ffn_down.weight", (d.ffn, e), w("down")),
            ("ffn_up.weight", (e, d.ffn), w("q")),
        ]
    return rows


def _mix(quant: str, role: str, i: int, layers: int) -> str:
    if quant == "MXFP4":
        return "MXFP4" if role == "experts" else "Q8_0"
    if quant not in ("Q4_K_M", "Q4_K_S", "IQ4_XS", "Q4_0"):
        return {"Q6_K": "Q6_K"}.get(quant, quant)
    base = {"Q4_K_M": "Q4_K", "Q4_K_S": "Q4_K"}.get(quant, quant)
    if role == "output":
        return "Q6_K"
    if quant == "Q4_K_M" and role in ("v", "down"):
        more = i < layers // 8 or i >= 7 * layers // 8 or (i - layers // 8) % 3 == 2
        return "Q6_K" if more else base
    return base


def _fallback(type_: str, row: int) -> str:
    """Rows that no block of 256 divides get a type with blocks of 32, or none, as llama-quantize falls back."""
    if row % TYPES[type_][1] == 0:
        return type_
    if row % 32 == 0:
        return "Q8_0"
    return "F16"


def text_metadata(d: Dims, quant: str) -> dict[str, Any]:
    """The keys that llama.cpp asks for."""
    a = d.architecture
    keys: dict[str, Any] = {
        "general.architecture": a,
        "general.name": "ghost",
        "general.file_type": FILE_TYPES[quant],
        f"{a}.block_count": d.layers + d.draft_layers,
        f"{a}.context_length": d.context,
        f"{a}.embedding_length": d.embedding,
        f"{a}.feed_forward_length": d.ffn or d.expert_ffn,
        f"{a}.attention.head_count": d.heads,
        f"{a}.attention.head_count_kv": d.kv_heads,
        f"{a}.attention.layer_norm_rms_epsilon": 1e-6,
        f"{a}.rope.freq_base": 1e6,
        f"{a}.attention.key_length": d.head,
        f"{a}.attention.value_length": d.head,
        f"{a}.rope.dimension_count": 64 if a.startswith("qwen35") else d.head,
        f"{a}.vocab_size": d.vocabulary,
    }
    if a in ("qwen2vl", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe"):
        keys[f"{a}.rope.dimension_sections"] = [11, 11, 10, 0] if a.startswith("qwen35") else [24, 20, 20, 0]
    if d.deepstack:
        keys[f"{a}.n_deepstack_layers"] = d.deepstack
    if d.experts:
        keys |= {
            f"{a}.expert_count": d.experts,
            f"{a}.expert_used_count": d.experts_used,
            f"{a}.expert_feed_forward_length": d.expert_ffn,
        }
        if d.shared_ffn:
            keys[f"{a}.expert_shared_feed_forward_length"] = d.shared_ffn
    if d.inner:
        keys |= {
            f"{a}.ssm.conv_kernel": 4,
            f"{a}.ssm.inner_size": d.inner,
            f"{a}.ssm.state_size": d.state,
            f"{a}.ssm.time_step_rank": d.rank,
            f"{a}.ssm.group_count": d.groups,
            f"{a}.full_attention_interval": 4,
        }
    keys |= {f"{a}.{key}": value for key, value in d.more_keys}
    if f"{a}.token_type_count" in keys:
        keys["tokenizer.ggml.token_type_count"] = keys.pop(f"{a}.token_type_count")
    if d.draft_layers:
        keys[f"{a}.nextn_predict_layers"] = d.draft_layers
    return keys


def write_text(path: Path, d: Dims, quant: str = "Q4_K_M", *, vocabulary: str = "no_vocab") -> Path:
    """Write the ghost of a text model; `vocabulary` is "no_vocab" or "full" for a tokenizer of the real size."""
    keys = text_metadata(d, quant)
    if vocabulary == "no_vocab":
        keys["tokenizer.ggml.model"] = "no_vocab"
    else:
        keys |= {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "qwen2",
            "tokenizer.ggml.tokens": [f"t{i}" for i in range(d.vocabulary)],
            "tokenizer.ggml.token_type": [1] * d.vocabulary,
            "tokenizer.ggml.merges": [f"t{i} t{i + 1}" for i in range(d.vocabulary - 1000)],
            "tokenizer.ggml.eos_token_id": 0,
            "tokenizer.ggml.bos_token_id": 0,
        }
    return write_gguf(path, keys, text_tensors(d, quant))


def vision_tensors(v: VisionDims, quant: str = "F16") -> list[Row]:
    """Tensors of a projector: matrices of type `quant`, the rest float, as convert_hf_to_gguf --mmproj writes."""
    h, three = v.hidden, v.kind == "qwen3vl_merger"
    rms = v.kind == "qwen2.5vl_merger"
    rows: list[Row] = [
        ("v.patch_embd.weight", (v.patch, v.patch, 3, h), "F32"),
        ("v.patch_embd.weight.1", (v.patch, v.patch, 3, h), "F32"),
    ]
    if three:
        rows += [("v.patch_embd.bias", (h,), "F32"), ("v.position_embd.weight", (h, 2304), "F32")]
    for i in range(v.blocks):
        b = f"v.blk.{i}"
        names = ("ln1.weight", "ln2.weight") if rms else ("ln1.weight", "ln1.bias", "ln2.weight", "ln2.bias")
        rows += [(f"{b}.{n}", (h,), "F32") for n in names]
        if three:
            rows += [(f"{b}.attn_qkv.weight", (h, 3 * h), quant), (f"{b}.attn_qkv.bias", (3 * h,), "F32")]
        else:
            for n in ("attn_q", "attn_k", "attn_v"):
                rows += [(f"{b}.{n}.weight", (h, h), quant), (f"{b}.{n}.bias", (h,), "F32")]
        rows += [(f"{b}.attn_out.weight", (h, h), quant), (f"{b}.attn_out.bias", (h,), "F32")]
        if rms:
            rows += [(f"{b}.ffn_gate.weight", (h, v.ffn), quant), (f"{b}.ffn_gate.bias", (v.ffn,), "F32")]
        rows += [
            (f"{b}.ffn_up.weight", (h, v.ffn), quant),
            (f"{b}.ffn_up.bias", (v.ffn,), "F32"),
            (f"{b}.ffn_down.weight", (v.ffn, h), quant),
            (f"{b}.ffn_down.bias", (h,), "F32"),
        ]
    rows.append(("v.post_ln.weight", (h,), "F32"))
    if not rms:
        rows.append(("v.post_ln.bias", (h,), "F32"))
    for i in v.deepstack:
        rows += _merger(f"v.deepstack.{i}", h, v.out, quant, ("fc1", "fc2"))
        rows += [(f"v.deepstack.{i}.norm.weight", (4 * h,), "F32"), (f"v.deepstack.{i}.norm.bias", (4 * h,), "F32")]
    rows += _merger("mm", h, v.out, quant, ("0", "2"))
    return [(n, s, _fallback(t, s[0])) for n, s, t in rows]


def _merger(prefix: str, hidden: int, out: int, quant: str, names: tuple[str, str]) -> list[Row]:
    first, second = (f"{prefix}.{n}" for n in names)
    return [
        (f"{first}.weight", (4 * hidden, 4 * hidden), quant),
        (f"{first}.bias", (4 * hidden,), "F32"),
        (f"{second}.weight", (4 * hidden, out), quant),
        (f"{second}.bias", (out,), "F32"),
    ]


def vision_metadata(v: VisionDims) -> dict[str, Any]:
    """The keys that clip.cpp asks for."""
    keys: dict[str, Any] = {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "general.name": "ghost",
        "general.file_type": 1,
        "clip.has_vision_encoder": True,
        "clip.projector_type": v.kind,
        "clip.vision.image_size": 768 if v.patch == 16 else 560,
        "clip.vision.patch_size": v.patch,
        "clip.vision.embedding_length": v.hidden,
        "clip.vision.feed_forward_length": v.ffn,
        "clip.vision.block_count": v.blocks,
        "clip.vision.attention.head_count": v.heads,
        "clip.vision.attention.layer_norm_epsilon": 1e-6,
        "clip.vision.projection_dim": v.out,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
    }
    if v.kind == "qwen2.5vl_merger":
        keys |= {"clip.use_silu": True, "clip.vision.n_wa_pattern": 8, "clip.vision.window_size": 112}
    else:
        keys |= {"clip.use_gelu": True, "clip.vision.spatial_merge_size": 2}
    if v.kind == "qwen3vl_merger":
        keys["clip.vision.is_deepstack_layers"] = [i in v.deepstack for i in range(v.blocks)]
    return keys


def write_vision(path: Path, v: VisionDims, quant: str = "F16") -> Path:
    """Write the ghost of a projector."""
    return write_gguf(path, vision_metadata(v), vision_tensors(v, quant))


# --- the same without a file ------------------------------------------------------------------------------------------


def text_model(d: Dims, quant: str = "Q4_K_M", projector: Projector | None = None) -> Model:
    """What reading the ghost would give, made directly."""
    header = _header(Path("ghost.gguf"), text_metadata(d, quant), text_tensors(d, quant))
    parameters = sum(math.prod(t.shape) for t in header.tensors)
    return Model(
        name="ghost",
        architecture=d.architecture,
        header=header,
        shards=(header.path,),
        quant=quant,
        parameters=parameters,
        file_bytes=header.file_bytes,
        projector=projector,
    )


def vision_projector(v: VisionDims, quant: str = "F16") -> Projector:
    """A projector, made directly."""
    header = _header(Path("mmproj-ghost.gguf"), vision_metadata(v), vision_tensors(v, quant))
    return Projector(header.path, header, v.kind, v.out, header.file_bytes)


def _header(path: Path, metadata: dict[str, Any], rows: Sequence[Row]) -> Header:
    tensors, offset = [], 0
    for name, shape, type_ in rows:
        number, block, size = TYPES[type_]
        length = math.prod(shape) // block * size
        tensors.append(Tensor(name, shape, number, offset, length))
        offset += -(-length // 32) * 32
    return Header(path, 3, metadata, tuple(tensors), 32, 0, offset)
