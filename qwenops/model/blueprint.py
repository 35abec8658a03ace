"""A model as its converter would write it, from the catalogue's dimensions alone: for planning before any file is seen.

The tensor tables are those of convert_hf_to_gguf.py (llama.cpp b10435) for the Qwen vision families, matrices in F16
and vectors in F32; model/quantizer.py then says what every quant of them is. The vocabulary is left out, so a real file
is some MiB longer; what the runtime must hold is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, Final

from qwenops.errors import BadInput
from qwenops.model.catalog import Entry
from qwenops.model.ggml_types import GGML_TYPES
from qwenops.model.types import Header, Model, Projector, Tensor
from qwenops.units import pad

Row = tuple[str, tuple[int, ...], int]

_F32: Final = 0
_F16: Final = 1
_ALIGNMENT: Final = 32
_PICTURE_PLACES: Final = 2304  # learned positions of Qwen3's vision towers, all of one size


def blueprint(entry: Entry) -> Model | None:
    """The model of a catalogue entry in F16 with its projector in F16; None where no dimensions are known.

    Raises BadInput where the dimensions of a user's own entry are not whole.
    """
    if entry.shape is None:
        return None
    try:
        return _drawn(entry, entry.shape)
    except (KeyError, TypeError, AttributeError) as e:
        raise BadInput(
            f"the dimensions of {entry.id} are not whole: {e}", do="take a shape of the catalogue, or leave it out"
        ) from None


def _drawn(entry: Entry, shape: Mapping[str, Any]) -> Model:
    header = _header(Path(f"{entry.id}-F16.gguf"), _text_keys(entry, shape), _text_rows(shape))
    vision = shape["vision"]
    projector = _header(Path(f"mmproj-{entry.id}-F16.gguf"), _vision_keys(vision), _vision_rows(vision))
    return Model(
        name=entry.title,
        architecture=shape["architecture"],
        header=header,
        shards=(header.path,),
        quant="F16",
        parameters=sum(prod(t.shape) for t in header.tensors),
        file_bytes=header.file_bytes,
        projector=Projector(projector.path, projector, vision["projector"], vision["out"], projector.file_bytes),
        remote=f"{entry.names[0]} (by its published dimensions)",
        drawn=True,
    )


def _header(path: Path, metadata: Mapping[str, Any], rows: Iterator[Row]) -> Header:
    tensors: list[Tensor] = []
    offset = 0
    for name, shape, kind in rows:
        known = GGML_TYPES[kind]
        size = prod(shape) // known.block * known.bytes
        tensors.append(Tensor(name, shape, kind, offset, size))
        offset += pad(size, _ALIGNMENT)
    return Header(path, 3, metadata, tuple(tensors), _ALIGNMENT, 0, offset)


# --- the text model ---------------------------------------------------------------------------------------------------


def _text_keys(entry: Entry, s: Mapping[str, Any]) -> dict[str, Any]:
    a = s["architecture"]
    recurrent, experts, vision = s.get("recurrent"), s.get("experts"), s["vision"]
    own: dict[str, Any] = {
        "block_count": s["layers"],
        "context_length": s["context"],
        "embedding_length": s["embedding"],
        "feed_forward_length": s.get("feed_forward", 0),
        "attention.head_count": s["heads"],
        "attention.head_count_kv": s["kv_heads"],
        "attention.key_length": s["head"],
        "attention.value_length": s["head"],
        "rope.dimension_count": s["head"] // 4 if recurrent else s["head"],
        "rope.dimension_sections": [11, 11, 10, 0] if recurrent else _sections(s["head"]),
        "vocab_size": s["vocabulary"],
    }
    if "deepstack" in vision:
        own["n_deepstack_layers"] = len(vision["deepstack"])
    if experts:
        own |= {
            "expert_count": experts["experts"],
            "expert_used_count": experts["used"],
            "expert_feed_forward_length": experts["feed_forward"],
        }
        if "shared_feed_forward" in experts:
            own["expert_shared_feed_forward_length"] = experts["shared_feed_forward"]
    if recurrent:
        own |= {
            "full_attention_interval": recurrent["every"],
            "ssm.conv_kernel": recurrent["conv_kernel"],
            "ssm.inner_size": recurrent["inner"],
            "ssm.state_size": recurrent["state"],
            "ssm.group_count": recurrent["groups"],
            "ssm.time_step_rank": recurrent["rank"],
        }
    return {"general.architecture": a, "general.name": entry.title} | {f"{a}.{key}": v for key, v in own.items()}


def _sections(head: int) -> list[int]:
    """How rotary positions are shared out between time, height and width: 24, 20, 20 of the 64 pairs of a head."""
    pairs = head // 2
    return [pairs - 2 * (pairs * 20 // 64), pairs * 20 // 64, pairs * 20 // 64, 0]


def _text_rows(s: Mapping[str, Any]) -> Iterator[Row]:
    e = s["embedding"]
    yield "token_embd.weight", (e, s["vocabulary"]), _F16
    yield "output_norm.weight", (e,), _F32
    if not s["tied"]:
        yield "output.weight", (e, s["vocabulary"]), _F16
    for i in range(s["layers"]):
        recurrent = s.get("recurrent")
        yield from _under(f"blk.{i}", _norm_rows(s))
        if recurrent and (i + 1) % recurrent["every"]:
            yield from _under(f"blk.{i}", _recurrent_rows(e, recurrent))
        else:
            yield from _under(f"blk.{i}", _attention_rows(s))
        yield from _under(f"blk.{i}", _expert_rows(e, s["experts"]) if "experts" in s else _feed_forward_rows(s))


def _under(prefix: str, rows: Iterator[Row]) -> Iterator[Row]:
    return ((f"{prefix}.{name}", shape, kind) for name, shape, kind in rows)


def _norm_rows(s: Mapping[str, Any]) -> Iterator[Row]:
    second = "post_attention_norm" if s.get("recurrent") else "ffn_norm"
    for name in ("attn_norm", second):
        yield f"{name}.weight", (s["embedding"],), _F32


def _attention_rows(s: Mapping[str, Any]) -> Iterator[Row]:
    e, head, second_version = s["embedding"], s["head"], s["architecture"].startswith("qwen2")
    q, kv = head * s["heads"], head * s["kv_heads"]
    # a hybrid's queries carry a gate of the same size
    wide = q * 2 if s.get("recurrent") else q
    for name, width in (("attn_q", wide), ("attn_k", kv), ("attn_v", kv)):
        yield f"{name}.weight", (e, width), _F16
        if second_version:
            yield f"{name}.bias", (width,), _F32
    yield "attn_output.weight", (q, e), _F16
    if not second_version:
        for name in ("attn_q_norm", "attn_k_norm"):
            yield f"{name}.weight", (head,), _F32


def _recurrent_rows(e: int, r: Mapping[str, int]) -> Iterator[Row]:
    channels = 2 * r["state"] * r["groups"] + r["inner"]
    yield "attn_qkv.weight", (e, channels), _F16
    yield "attn_gate.weight", (e, r["inner"]), _F16
    yield "ssm_conv1d.weight", (r["conv_kernel"], channels), _F32
    yield "ssm_dt.bias", (r["rank"],), _F32
    yield "ssm_a", (r["rank"],), _F32
    yield "ssm_beta.weight", (e, r["rank"]), _F16
    yield "ssm_alpha.weight", (e, r["rank"]), _F16
    yield "ssm_norm.weight", (r["state"],), _F32
    yield "ssm_out.weight", (r["inner"], e), _F16


def _feed_forward_rows(s: Mapping[str, Any]) -> Iterator[Row]:
    e, wide = s["embedding"], s["feed_forward"]
    yield "ffn_gate.weight", (e, wide), _F16
    yield "ffn_up.weight", (e, wide), _F16
    yield "ffn_down.weight", (wide, e), _F16


def _expert_rows(e: int, x: Mapping[str, int]) -> Iterator[Row]:
    count, wide = x["experts"], x["feed_forward"]
    yield "ffn_gate_inp.weight", (e, count), _F32
    yield "ffn_gate_exps.weight", (e, wide, count), _F16
    yield "ffn_up_exps.weight", (e, wide, count), _F16
    yield "ffn_down_exps.weight", (wide, e, count), _F16
    if shared := x.get("shared_feed_forward"):
        yield "ffn_gate_inp_shexp.weight", (e,), _F32
        yield "ffn_gate_shexp.weight", (e, shared), _F16
        yield "ffn_up_shexp.weight", (e, shared), _F16
        yield "ffn_down_shexp.weight", (shared, e), _F16


# --- the projector ----------------------------------------------------------------------------------------------------


def _vision_keys(v: Mapping[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {
        "image_size": 768 if v["patch"] == 16 else 560,
        "patch_size": v["patch"],
        "embedding_length": v["embedding"],
        "feed_forward_length": v["feed_forward"],
        "block_count": v["layers"],
        "attention.head_count": v["heads"],
        "projection_dim": v["out"],
        "spatial_merge_size": 2,
    }
    if "window_pattern" in v:
        own["n_wa_pattern"] = v["window_pattern"]
    if v["projector"] == "qwen3vl_merger":
        own["is_deepstack_layers"] = [i in v.get("deepstack", ()) for i in range(v["layers"])]
    return {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "clip.has_vision_encoder": True,
        "clip.projector_type": v["projector"],
    } | {f"clip.vision.{key}": value for key, value in own.items()}


def _vision_rows(v: Mapping[str, Any]) -> Iterator[Row]:
    h, out, patch, windowed = v["embedding"], v["out"], v["patch"], "window_pattern" in v
    for name in ("v.patch_embd.weight", "v.patch_embd.weight.1"):
        yield name, (patch, patch, 3, h), _F16
    if not windowed:
        yield "v.patch_embd.bias", (h,), _F32
        yield "v.position_embd.weight", (h, _PICTURE_PLACES), _F32
    for i in range(v["layers"]):
        yield from _under(f"v.blk.{i}", _vision_block(h, v["feed_forward"], windowed=windowed))
    yield from _vector_pair("v.post_ln", h, biased=not windowed)
    for i in v.get("deepstack", ()):
        yield from _vector_pair(f"v.deepstack.{i}.norm", 4 * h, biased=True)
        yield from _two_layers(f"v.deepstack.{i}.fc1", f"v.deepstack.{i}.fc2", h, out)
    yield from _two_layers("mm.0", "mm.2", h, out)


def _vision_block(h: int, wide: int, *, windowed: bool) -> Iterator[Row]:
    for name in ("ln1", "ln2"):
        yield from _vector_pair(name, h, biased=not windowed)
    for name in ("attn_q", "attn_k", "attn_v") if windowed else ("attn_qkv",):
        yield from _matrix(name, h, h if windowed else 3 * h)
    yield from _matrix("attn_out", h, h)
    for name in ("ffn_gate", "ffn_up") if windowed else ("ffn_up",):
        yield from _matrix(name, h, wide)
    yield from _matrix("ffn_down", wide, h)


def _two_layers(first: str, second: str, h: int, out: int) -> Iterator[Row]:
    yield from _matrix(first, 4 * h, 4 * h)
    yield from _matrix(second, 4 * h, out)


def _matrix(name: str, inside: int, outside: int) -> Iterator[Row]:
    yield f"{name}.weight", (inside, outside), _F16
    yield f"{name}.bias", (outside,), _F32


def _vector_pair(name: str, width: int, *, biased: bool) -> Iterator[Row]:
    yield f"{name}.weight", (width,), _F32
    if biased:
        yield f"{name}.bias", (width,), _F32
