"""A projector that is not a file of its own: models of Ollama's library carry the vision tensors inside."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from qwenops.model.types import Model, Projector

PREFIXES: Final = ("v.", "mm.", "a.")
INLINE_KIND: Final = "inline"


def inline_projector(model: Model) -> Projector | None:
    """The vision tensors inside a model file, as if they were a projector; None where there are none."""
    if not model.inline_vision:
        return None
    tensors = tuple(t for t in model.header.tensors if t.name.startswith(PREFIXES))
    if not tensors:
        return None
    prefix = f"{model.architecture}.vision."
    metadata = {
        f"clip.vision.{key.removeprefix(prefix)}": value
        for key, value in model.header.metadata.items()
        if key.startswith(prefix)
    }
    header = replace(model.header, tensors=tensors, metadata=metadata)
    return Projector(model.path, header, INLINE_KIND, 0, header.tensor_bytes)
