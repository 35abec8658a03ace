"""Models that are somewhere else, as tests ask for them."""

from __future__ import annotations

from typing import Any

from qwenops.model.read import model_key
from qwenops.model.reference import read_references
from qwenops.model.types import Model
from qwenops.model.web import Limits

QUICK = Limits(stall_s=1, total_s=2)
REPO = "maker/Eyes-8B-GGUF"


def read_one(reference: str, **rest: Any) -> Model:
    (model,) = read_references([reference], **rest)
    return model


def same(remote: Model, local: Model) -> bool:
    return model_key(remote) == model_key(local) and remote.quant == local.quant
