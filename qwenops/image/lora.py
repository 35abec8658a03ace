"""LoRA files: whether one was made for a Qwen-Image model, before the library ignores what it does not know."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qwenops.errors import BadInput
from qwenops.image.catalogue import ImageModel, models
from qwenops.image.parts import safetensors_table

_OWN: Final = re.compile(r"transformer_blocks[._]\d+[._](attn[._](to_|add_)|(img|txt)_(mlp|mod))")
_FOREIGN: Final = (
    ("FLUX", re.compile(r"single_transformer_blocks|double_blocks|single_blocks")),
    ("Stable Diffusion", re.compile(r"lora_te\d?_|down_blocks|up_blocks|input_blocks|output_blocks")),
    ("a Qwen language model", re.compile(r"layers[._]\d+[._](self_attn|mlp)[._]")),
)


@dataclass(frozen=True)
class Lora:
    """A LoRA and how strongly it counts."""

    path: Path
    weight: float
    file_bytes: int


def read_lora(text: str, model: ImageModel) -> Lora:
    """FILE or FILE:WEIGHT. Raises BadInput where the file is none, or for another base."""
    name, colon, weight = text.rpartition(":")
    path, strength = Path(text), 1.0
    if colon and re.fullmatch(r"-?\d+(\.\d+)?", weight):
        path, strength = Path(name), float(weight)
    path = path.expanduser()
    if not path.is_file():
        raise BadInput(f"there is no LoRA {path}", do="look at the name; a weight is written FILE:0.8")
    names = safetensors_table(path).keys()
    _check_base(path, names, model)
    return Lora(path, strength, path.stat().st_size)


def _check_base(path: Path, names: Iterable[str], model: ImageModel) -> None:
    names = list(names)
    for base, pattern in _FOREIGN:
        if any(pattern.search(name) for name in names):
            raise BadInput(f"{path.name} is a LoRA for {base}, not for {model.title}", do="take one made for it")
    if not any(_OWN.search(name) for name in names):
        raise BadInput(f"{path.name} is no LoRA for {model.title}: none of its tensors is known", do="take another")
    for other in models().values():
        made_for = {Path(one.file).name for one in other.lightning if one.file}
        if path.name in made_for and other.lora_base != model.lora_base:
            raise BadInput(f"{path.name} was made for {other.title}, not for {model.title}", do="take the model's own")
