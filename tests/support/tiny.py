"""The small random vision-language models, made on first use and kept beside the other parts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.parts import layout


@dataclass(frozen=True)
class TinyModel:
    """A model file and the projector that belongs to it."""

    family: str
    model: Path
    projector: Path


def get(family: str) -> TinyModel:
    """The tiny model of this family (qwen3vl, qwen25vl, qwen35); written now if it is not there yet.

    Raises FileNotFoundError where SmolLM2, whose tokenizer it borrows, is missing.
    """
    found = TinyModel(family, layout().tiny(family), layout().tiny_projector(family))
    if found.model.exists() and found.projector.exists():
        return found
    if not layout().smollm.exists():
        raise FileNotFoundError(f"no {layout().smollm.name} in {layout().root} (make parts)")
    import fcntl

    from scripts.make_tiny_models import make, read_tokenizer

    with (layout().models / ".tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.model.exists():
            make(family, read_tokenizer(layout().smollm), layout().models)
    return found


def talker(family: str, folder: Path, *says: str, ends: bool = True) -> TinyModel:
    """A tiny model that answers with these tokens whatever it is shown; the last of them for ever unless it `ends`."""
    from scripts.make_tiny_models import make, read_tokenizer

    words = replace(read_tokenizer(layout().smollm), says=says, ends=ends)
    return TinyModel(family, *make(family, words, folder))
