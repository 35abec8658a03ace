"""The loads that are compared: true shapes, settings that people use, every kind of model.

The software device takes no tensor above 128 MiB, nor a head whose logits of 512 rows are more; it leaves them on the
host, which no card does. That is not what is compared: vocabularies and numbers of experts are cut to what it takes.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

from qwenops.errors import BadInput
from qwenops.machine.types import Device
from qwenops.memory.closed_form import closed_form
from qwenops.memory.shape import shape_of
from qwenops.memory.types import LoadSettings
from qwenops.model.types import Model
from qwenops.units import GIB, MIB
from tests.support.gguf_bytes import TYPES
from tests.support.shapes import TEXT, Dims, text_model, text_tensors

LARGEST_BYTES = 128 * MIB
MOST_TOKENS = LARGEST_BYTES // (4 * 512)
SOFTWARE_GPU = Device("Vulkan0", "vulkan", "llvmpipe", 2048 * MIB, 2048 * MIB, source="runtime")
Case = tuple[str, str, dict[str, Any], str | None]
Q8: dict[str, Any] = {"kv_type_k": "q8_0", "kv_type_v": "q8_0"}
Q4: dict[str, Any] = {"kv_type_k": "q4_0", "kv_type_v": "q4_0"}

# shape, quant, settings that differ from the defaults, projector
CASES: tuple[Case, ...] = (
    ("smollm2-135m", "Q8_0", {}, None),
    ("llama-3.2-1b", "Q4_K_M", {"num_ctx": 16384}, None),
    ("llama-3.2-1b", "Q4_K_M", {"num_ctx": 8192, "batch": 2048, "ubatch": 2048}, None),
    ("llama-3.1-8b", "Q4_K_M", {"gpu_layers": 7}, None),
    ("qwen2.5-0.5b", "Q4_K_M", {"num_ctx": 32768, **Q8}, None),
    ("qwen2.5-1.5b", "Q4_K_M", {"parallel": 3, "num_ctx": 3000}, None),
    ("qwen3-0.6b", "Q8_0", {"num_ctx": 10000}, None),
    ("qwen3-0.6b", "Q4_K_M", {"num_ctx": 4096, "flash_attn": "off"}, None),
    ("qwen3-1.7b", "Q4_K_M", {"num_ctx": 8192, **Q8}, None),
    ("qwen3-4b", "Q4_K_M", {"gpu_layers": 22}, None),
    ("qwen3-8b", "Q4_K_M", {"gpu_layers": 0}, None),
    ("phi-4-mini", "Q4_K_M", {"gpu_layers": 16}, None),
    ("granite-3.3-2b", "Q4_K_M", {}, None),
    ("ministral-3-3b", "Q4_K_M", {"gpu_layers": 20}, None),
    ("gemma-3-270m", "Q8_0", {"num_ctx": 8192}, None),
    ("gemma-3-1b-small-head", "Q4_K_M", {"num_ctx": 32768}, None),
    ("gemma-2-2b-small-head", "Q4_K_M", {"num_ctx": 8192}, None),
    ("gpt-oss-small", "MXFP4", {"num_ctx": 16384}, None),
    ("command-r7b-small", "Q4_K_M", {"num_ctx": 8192}, None),
    ("granite-3.1-1b-a400m", "Q4_K_M", {"num_ctx": 8192}, None),
    ("granite-3.1-1b-a400m", "Q8_0", {"gpu_layers": 11}, None),
    ("qwen3-30b-a3b", "Q4_K_M", {"gpu_layers": 4}, None),
    ("qwen3-30b-a3b", "Q4_0", {"num_ctx": 8192, "gpu_layers": 3, "batch": 2048, "ubatch": 2048}, None),
    ("qwen3.5-0.8b", "Q4_K_M", {"num_ctx": 32768}, None),
    ("qwen3.5-0.8b", "Q8_0", {"num_ctx": 131072, "batch": 2048, "ubatch": 2048, **Q8}, None),
    ("qwen3.5-0.8b", "Q4_K_M", {"parallel": 4, "num_ctx": 4096}, None),
    ("qwen3.5-2b", "Q4_K_M", {"num_ctx": 16384, "flash_attn": "off"}, None),
    ("qwen3.5-2b", "Q4_K_M", {"gpu_layers": 13}, None),
    ("qwen3.5-4b", "Q4_K_M", {"num_ctx": 8192, "gpu_layers": 12}, None),
    ("qwen3.5-9b", "Q4_K_M", {"gpu_layers": 5}, None),
    ("qwen3.6-27b", "Q4_K_M", {"num_ctx": 8192, "gpu_layers": 4}, None),
    ("qwen3.6-35b-a3b", "Q4_K_M", {"gpu_layers": 3}, None),
    ("qwen3-next-small", "Q4_K_M", {"num_ctx": 8192}, None),
    ("lfm2-350m", "Q4_K_M", {"num_ctx": 16384}, None),
    ("lfm2-1.2b", "Q4_K_M", {}, None),
    ("lfm2-moe-small", "Q4_K_M", {}, None),
    ("qwen2-vl-2b", "Q4_K_M", {"gpu_layers": 12}, "qwen2-vl"),
    ("qwen2.5-vl-3b", "Q4_K_M", {"gpu_layers": 16}, "qwen2.5-vl-3b"),
    ("qwen2.5-vl-7b", "Q4_K_M", {"gpu_layers": 5}, "qwen2.5-vl-7b"),
    ("qwen3-vl-2b", "Q4_K_M", {"num_ctx": 2048}, "qwen3-vl-2b"),
    ("qwen3-vl-2b", "Q4_K_M", {"num_ctx": 8192, **Q8, "gpu_layers": 20}, "qwen3-vl-2b"),
    ("qwen3-vl-4b", "Q4_K_M", {"gpu_layers": 12}, "qwen3-vl-4b"),
    ("qwen3-vl-8b", "Q4_K_M", {"gpu_layers": 4}, "qwen3-vl-8b"),
    ("qwen3-vl-30b-a3b", "Q4_K_M", {"gpu_layers": 2}, "qwen3-vl-8b"),
    ("qwen3.5-0.8b", "Q4_K_M", {"num_ctx": 16384}, "qwen3.5-0.8b"),
    ("qwen3.5-2b", "Q4_K_M", {}, "qwen3.5-2b"),
    ("qwen3.5-4b", "Q4_K_M", {"gpu_layers": 9}, "qwen3.5-4b"),
    ("qwen3.5-0.8b", "Q4_K_M", {"flash_attn": "off", "gpu_layers": 12}, "qwen3.5-0.8b"),
)


def held_in_one_piece(shape: str, quant: str) -> Dims:
    """A published shape with a vocabulary and experts that the software device takes."""
    dims = TEXT[shape]
    largest = {name: _bytes(rows, type_) for name, rows, type_ in text_tensors(dims, quant)}
    head = max(largest["token_embd.weight"], largest.get("output.weight", 0))
    experts = max((size for name, size in largest.items() if "_exps.weight" in name), default=0)
    tokens = min(MOST_TOKENS, dims.vocabulary * LARGEST_BYTES // head // 256 * 256)
    if dims.vocabulary > tokens:
        dims = replace(dims, vocabulary=tokens)
    if experts > LARGEST_BYTES:
        dims = replace(dims, experts=max(dims.experts_used, dims.experts * LARGEST_BYTES // experts // 8 * 8))
    return dims


def _bytes(shape: tuple[int, ...], type_: str) -> int:
    _, block, size = TYPES[type_]
    return math.prod(shape) // block * size


def largest_on_device(model: Model) -> int:
    """Bytes of the largest tensor that is not looked up by row on the host."""
    return max(t.size_bytes for t in model.header.tensors if not t.name.startswith("per_layer_token_embd"))


def drawn_case(dice: random.Random) -> Case:
    """A shape and settings that nobody picked, not larger than the software device says it is."""
    while True:
        shape, quant, settings, _ = case = _any_case(dice)
        model = text_model(held_in_one_piece(shape, quant), quant)
        if largest_on_device(model) > LARGEST_BYTES:
            continue  # a feed-forward that cannot be cut
        if shape_of(model).pooling is not None:
            continue  # a server of vectors is started in another way
        try:
            need = closed_form(model, LoadSettings(**settings), (SOFTWARE_GPU,))
        except BadInput:
            continue  # settings with which the runtime refuses to load
        fits = need.total_device_bytes < SOFTWARE_GPU.free_bytes and need.host.kv_bytes < GIB
        if fits and not any("aborts" in note for note in need.notes):
            return case


def _any_case(dice: random.Random) -> Case:
    shape = dice.choice(sorted(TEXT))
    layers = TEXT[shape].layers + 1
    kv = dice.choice(["f16", "q8_0", "q4_0"])
    batch = dice.choice([512, 1024, 2048])
    settings = {
        "num_ctx": dice.choice([2048, 3000, 4096, 8192, 16384, 32768, 65536, 131072]),
        "parallel": dice.choice([1, 1, 1, 2, 4]),
        "batch": batch,
        "ubatch": batch,
        "kv_type_k": kv,
        "kv_type_v": kv,
        "gpu_layers": dice.choice([layers, layers, dice.randint(0, layers)]),
    }
    return shape, dice.choice(["Q4_K_M", "Q8_0", "Q4_0"]), settings, None
