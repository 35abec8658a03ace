"""Where ExLlama puts what its files hold: the tensors on the device, on the host, and those that are not loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qwenops.model.exl import ExlModel
from qwenops.model.safetensors_header import StoredTensor

_VISION = re.compile(r"(model\.)?visual\.")
_DRAFT = re.compile(r"(model\.|language_model\.)*mtp\.")
_EMBEDDING = "embed_tokens.weight"
_PACKED_SIGNS = 16
_HALF_BYTES = 2


@dataclass(frozen=True)
class ExlWeights:
    """Bytes by place. `unused_bytes` are those of a draft head (mtp), which loads as a draft model only."""

    device_bytes: int
    vision_bytes: int
    host_bytes: int
    unused_bytes: int


def is_vision(tensor: StoredTensor) -> bool:
    """Whether a tensor belongs to the vision tower, which both converters leave unquantized."""
    return bool(_VISION.match(tensor.name))


def weights_of(model: ExlModel) -> ExlWeights:
    """What of a model's tensors lies where, once loaded.

    The token embedding stays on the host (exllamav2 model.py, load_autosplit; exllamav3 modules/embedding.py,
    prefer_cpu). Where no output layer is stored, exllamav3 loads the embedding a second time in its place, as fp16
    on the device (architecture/qwen3.py, head_alt_key).
    """
    device = vision = host = unused = 0
    for tensor in model.tensors:
        if is_vision(tensor):
            vision += tensor.size_bytes
        elif _DRAFT.match(tensor.name):
            unused += tensor.size_bytes
        elif tensor.name.endswith(_EMBEDDING):
            host += tensor.size_bytes
            if not any(t.name.startswith("lm_head.") for t in model.tensors):
                device += _values(tensor) * _HALF_BYTES
        else:
            device += _loaded_bytes(tensor, model.format)
    return ExlWeights(device, vision, host, unused)


def _values(tensor: StoredTensor) -> int:
    n = 1
    for length in tensor.shape:
        n *= length
    return n


def _loaded_bytes(tensor: StoredTensor, engine: str) -> int:
    """What a tensor takes on the device; two kinds are not kept as they are stored.

    EXL2's q_invperm comes as 32-bit and stays as 16-bit beside its inverse, with a group map of two 16-bit figures a
    row (exllamav2 ext.py, make_q_matrix and make_group_map). EXL3's older sign vectors (su, sv) hold 16 signs a word
    and become fp16 (exllamav3 modules/quant/exl3.py, unpack_bf).
    """
    if engine == "exl2" and tensor.name.endswith(".q_invperm"):
        return _values(tensor) * 4 * _HALF_BYTES
    if engine == "exl3" and tensor.name.endswith((".su", ".sv")):
        return _values(tensor) * _PACKED_SIGNS * _HALF_BYTES
    return tensor.size_bytes


@dataclass(frozen=True)
class Bits:
    """Bits per weight as the headers have them, scales included; None where nothing of that kind is quantized."""

    layers: float | None
    head: float | None


def bits_of(model: ExlModel) -> Bits:
    """The bits of the quantized layers and of the output layer, by their stored bytes."""
    layers, head = [0, 0], [0, 0]
    for name, values in quantized_layers(model).items():
        into = head if name.startswith("lm_head") else layers
        into[0] += values[0] * values[1]
        into[1] += sum(
            model.by_name[f"{name}.{part}"].size_bytes for part in _PARTS if f"{name}.{part}" in model.by_name
        )
    return Bits(*(8 * stored / values if values else None for values, stored in (layers, head)))


_PARTS = ("q_weight", "q_scale", "q_scale_max", "q_groups", "q_invperm", "trellis", "suh", "svh", "su", "sv")


def quantized_layers(model: ExlModel) -> dict[str, tuple[int, int]]:
    """The quantized layers by name: inputs and outputs.

    EXL2's q_invperm has an entry for each input and q_weight a column for each output; EXL3's trellis has tiles of
    16 by 16 weights (exllamav3 modules/quant/exl3.py: trellis.shape[-1] // 16 are the bits).
    """
    found = {}
    for tensor in model.tensors:
        if is_vision(tensor) or _DRAFT.match(tensor.name):
            continue
        name, _, part = tensor.name.rpartition(".")
        if part == "trellis" and len(tensor.shape) == 3:
            found[name] = (tensor.shape[0] * 16, tensor.shape[1] * 16)
        elif part == "q_weight" and len(tensor.shape) == 2 and (order := model.by_name.get(f"{name}.q_invperm")):
            found[name] = (_values(order), tensor.shape[1])
    return found
