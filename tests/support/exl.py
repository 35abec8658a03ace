"""EXL2 and EXL3 models as their converters write them: the same names, types and shapes, with zeros for weights.

Small ones are written by the safetensors library itself. Those of true size are sparse files with a header of ours,
which the library must be able to open (tests/model/test_exl.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

BYTES = {"F16": 2, "BF16": 2, "I16": 2, "I32": 4, "F32": 4}
Table = dict[str, tuple[str, tuple[int, ...]]]
"""Tensors by name: type and shape."""


@dataclass(frozen=True)
class Dims:
    """What a Qwen vision-language model is made of."""

    architecture: str = "Qwen3VLForConditionalGeneration"
    layers: int = 2
    hidden: int = 128
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 128
    feed_forward: int = 256
    vocabulary: int = 512
    context: int = 262144
    vision: int = 64
    vision_blocks: int = 2
    linear: tuple[int, ...] = ()
    tied: bool = False
    draft: bool = False
    more: dict[str, Any] = field(default_factory=dict)


QWEN3_VL_8B = Dims(
    layers=36, hidden=4096, heads=32, kv_heads=8, feed_forward=12288, vocabulary=151936, vision=1152, vision_blocks=27
)
QWEN25_VL_7B = Dims(
    architecture="Qwen2_5_VLForConditionalGeneration",
    layers=28,
    hidden=3584,
    heads=28,
    kv_heads=4,
    feed_forward=18944,
    vocabulary=152064,
    context=128000,
    vision=1280,
    vision_blocks=32,
)


def config(dims: Dims, engine: str, bits: float) -> dict[str, Any]:
    """config.json, with the entry that the converter adds."""
    text = {
        "num_hidden_layers": dims.layers,
        "hidden_size": dims.hidden,
        "num_attention_heads": dims.heads,
        "num_key_value_heads": dims.kv_heads,
        "head_dim": dims.head_dim,
        "intermediate_size": dims.feed_forward,
        "vocab_size": dims.vocabulary,
        "max_position_embeddings": dims.context,
        **dims.more,
    }
    vision = {"hidden_size": dims.vision, "intermediate_size": 4 * dims.vision, "spatial_merge_size": 2}
    aim = {"quant_method": engine, "version": "1.4.1" if engine == "exl3" else "0.3.2", "bits": bits, "head_bits": 6}
    flat = engine == "exl2" or not dims.architecture.startswith("Qwen3")
    return {
        "architectures": [dims.architecture],
        **(text if flat else {"text_config": text}),
        "vision_config": vision,
        "quantization_config": aim,
    }


def exl3_linear(name: str, inputs: int, outputs: int, bits: int) -> Table:
    """exllamav3: tiles of 16 by 16 weights in `bits` words of 16, and the two sign vectors as fp16."""
    return {
        f"{name}.trellis": ("I16", (inputs // 16, outputs // 16, 16 * bits)),
        f"{name}.suh": ("F16", (inputs,)),
        f"{name}.svh": ("F16", (outputs,)),
        f"{name}.mcg": ("I32", ()),
    }


def exl2_linear(name: str, inputs: int, outputs: int, bits: int, group: int = 32) -> Table:
    """exllamav2: rows of 32-bit words, 4-bit scales of each group, the order of the inputs."""
    groups = -(-inputs // group)
    return {
        f"{name}.q_weight": ("I32", (inputs * bits // 32, outputs)),
        f"{name}.q_scale": ("I32", (groups, outputs // 8)),
        f"{name}.q_scale_max": ("F16", (groups,)),
        f"{name}.q_groups": ("I16", (2 * groups,)),
        f"{name}.q_invperm": ("I32", (inputs,)),
    }


def tensors(dims: Dims, engine: str, bits: int = 4, head_bits: int = 6) -> Table:
    """Every tensor of a model."""
    linear = exl3_linear if engine == "exl3" else exl2_linear
    prefix = "model.language_model" if engine == "exl3" and dims.architecture.startswith("Qwen3") else "model"
    visual = "model.visual" if prefix != "model" else "visual"
    wide, narrow, d, i = dims.heads * dims.head_dim, dims.kv_heads * dims.head_dim, dims.hidden, dims.feed_forward
    found: Table = {
        f"{prefix}.embed_tokens.weight": ("F16", (dims.vocabulary, d)),
        f"{prefix}.norm.weight": ("F16", (d,)),
    }
    for n in range(dims.layers):
        at = f"{prefix}.layers.{n}"
        found[f"{at}.input_layernorm.weight"] = found[f"{at}.post_attention_layernorm.weight"] = ("F16", (d,))
        if n in dims.linear:
            found |= linear(f"{at}.linear_attn.in_proj_qkv", d, wide, bits)
            found |= linear(f"{at}.linear_attn.out_proj", wide, d, bits)
            found[f"{at}.linear_attn.A_log"] = ("F32", (dims.heads,))
        else:
            for part, outputs in (("q", wide), ("k", narrow), ("v", narrow)):
                found |= linear(f"{at}.self_attn.{part}_proj", d, outputs, bits)
            found |= linear(f"{at}.self_attn.o_proj", wide, d, bits)
        found |= linear(f"{at}.mlp.gate_proj", d, i, bits)
        found |= linear(f"{at}.mlp.up_proj", d, i, bits)
        found |= linear(f"{at}.mlp.down_proj", i, d, bits)
    if not dims.tied:
        found |= linear("lm_head", d, dims.vocabulary, head_bits)
    v = dims.vision
    for n in range(dims.vision_blocks):
        found[f"{visual}.blocks.{n}.attn.qkv.weight"] = ("F16", (3 * v, v))
        found[f"{visual}.blocks.{n}.mlp.linear_fc1.weight"] = ("F16", (4 * v, v))
        found[f"{visual}.blocks.{n}.mlp.linear_fc2.weight"] = ("F16", (v, 4 * v))
    found[f"{visual}.merger.linear_fc1.weight"] = ("F16", (4 * v, 4 * v))
    if dims.draft:
        found["mtp.fc.weight"] = ("F16", (d, 2 * d))
    return found


def write(folder: Path, table: Table, settings: dict[str, Any], *, shards: int = 1, preprocessor: bool = True) -> Path:
    """A folder as a converter leaves it, its tensors written by the safetensors library."""
    import numpy as np
    from safetensors.numpy import save_file

    kinds = {"F16": np.float16, "I16": np.int16, "I32": np.int32, "F32": np.float32}
    folder.mkdir(parents=True, exist_ok=True)
    names = list(table)
    for n in range(shards):
        part = names[n::shards]
        save_file({name: np.zeros(table[name][1], kinds[table[name][0]]) for name in part}, folder / _name(n, shards))
    _settings(folder, settings, preprocessor)
    if shards > 1:
        placed = {name: _name(n, shards) for n in range(shards) for name in names[n::shards]}
        index = {"metadata": {}, "weight_map": placed}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def ghost(folder: Path, table: Table, settings: dict[str, Any]) -> Path:
    """A folder of true size that takes no room: the header, and a hole for the data."""
    header, at = {}, 0
    for name, (kind, shape) in table.items():
        size = prod(shape) * BYTES[kind]
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    folder.mkdir(parents=True, exist_ok=True)
    write_raw(folder / "model.safetensors", json.dumps(header).encode(), at)
    _settings(folder, settings, True)
    return folder


def write_raw(path: Path, header: bytes, data_bytes: int, length: int | None = None) -> Path:
    """A file with this header, a length that may be a lie, and a hole for the data."""
    length = len(header) if length is None else length
    path.write_bytes(length.to_bytes(8, "little") + header)
    with path.open("r+b") as file:
        file.truncate(8 + len(header) + data_bytes)
    return path


def _settings(folder: Path, settings: dict[str, Any], preprocessor: bool) -> None:
    (folder / "config.json").write_text(json.dumps(settings))
    if preprocessor:
        size = {"longest_edge": 16777216, "shortest_edge": 65536}
        about = {"size": size, "patch_size": 16, "temporal_patch_size": 2, "merge_size": 2}
        (folder / "preprocessor_config.json").write_text(json.dumps(about))


def _name(n: int, shards: int) -> str:
    return "model.safetensors" if shards == 1 else f"model-{n + 1:05d}-of-{shards:05d}.safetensors"
