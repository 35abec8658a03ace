"""Prompts for pictures, checked: the rules of image/, the tokens by a tokenizer that was given or found here."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from qwenops.errors import BadInput, PartMissing, QwenopsError
from qwenops.image.catalogue import ImageModel, find
from qwenops.image.prompt import MOST_BYTES, prompt_of
from qwenops.image.prompt_check import Finding, check_prompt
from qwenops.image.prompt_tokens import QWEN_TOKENIZER, TokenCount, bounds, count
from qwenops.image.sizes import Size, choose_size
from qwenops.model.types import Model
from qwenops.result import Result

DEFAULT_MODEL: Final = "qwen-image-2512"
_QWEN_FAMILIES: Final = frozenset({"qwen2", "qwen2vl", "qwen25vl", "qwen3", "qwen3vl", "qwen3vlmoe"})
"""What Ollama calls the families whose tokenizer is the encoder's."""


def read_prompt(text: str | None, file: Path | None) -> str:
    """The prompt that was typed, or of a file, or of stdin for "-". Reads no more than can be a prompt.

    Raises BadInput where there is none or more than one, and where it is no text.
    """
    if (text is None) == (file is None):
        raise BadInput(
            "give one prompt: as text, with -f FILE, or - for stdin", do='qwenops image prompt check "A cat"'
        )
    if file is not None and str(file) != "-":
        return _decoded(_head(file))
    if text == "-" or file is not None:
        return _decoded(sys.stdin.buffer.read(MOST_BYTES + 4))
    return text or ""


def prompt_check_result(
    text: str,
    *,
    model: str = DEFAULT_MODEL,
    size: str | None = None,
    tokenizer: Path | str | None = None,
    offline: bool = False,
) -> Result:
    """What is wrong with a prompt ("qwenops.image-prompt-check/1"); exit code 1 when something must be mended."""
    known = find(model)
    if not known.is_qwen:
        raise BadInput(
            f"prompts are checked for the Qwen-Image models, not for {known.title}", do="--model qwen-image-2512"
        )
    prompt = prompt_of(text)
    picture = _size(known, size)
    tokens, notes = count_tokens(prompt.text, known, tokenizer, offline=offline)
    findings = check_prompt(prompt, known, picture, tokens, size_asked=size is not None)
    levels = [one.level for one in findings]
    data = {
        "model": known.id,
        "title": known.title,
        "size": str(picture) if picture else None,
        "language": prompt.language,
        "texts": list(prompt.texts()),
        "characters": len(prompt.text),
        "tokens": {"least": tokens.least, "most": tokens.most, "tokenizer": tokens.tokenizer},
        "most_tokens": known.value("prompt_tokens"),
        "findings": [_row(one) for one in findings],
        "errors": levels.count("error"),
        "warnings": levels.count("warning"),
        "sources": [
            {"id": s.id, "title": s.title, "url": s.url} for s in dict.fromkeys(one.source for one in findings)
        ],
    }
    return Result("qwenops.image-prompt-check/1", data, notes, 1 if "error" in levels else 0)


def count_tokens(
    text: str, model: ImageModel, tokenizer: Path | str | None, *, offline: bool = False
) -> tuple[TokenCount, tuple[str, ...]]:
    """The prompt's tokens by the tokenizer that was given, or one that is here; else bounds. With notes on which.

    Raises what reading a tokenizer that was given raises; one that was only found and cannot be read is passed over.
    """
    limits = [n for n in (model.value("prompt_tokens_default"), model.value("prompt_tokens")) if n]
    if tokenizer is not None:
        from qwenops.setup.given import only_one, variants

        found = only_one(tokenizer, variants((tokenizer,), None, offline=offline))
        notes = (
            () if _is_qwen(found) else (f"{found.name} does not have the encoder's tokenizer: the count is its own",)
        )
        return _counted(text, found, limits), notes
    if find_spec("llama_cpp") is None:
        return bounds(text), ()
    for one in _here():
        with contextlib.suppress(QwenopsError, OSError):
            return _counted(text, one, limits), ()
    return bounds(text), ()


def _counted(text: str, model: Model, limits: list[int]) -> TokenCount:
    from qwenops.memory.ghost import make_ghost

    if model.drawn:
        raise PartMissing(f"{model.name} is known by its dimensions alone, without a vocabulary", do="--tokenizer FILE")
    with make_ghost(model, Path(tempfile.gettempdir())) as ghost:
        return count(text, ghost.model, model.source, limits)


def _here() -> Iterator[Model]:
    """Models with the encoder's tokenizer that are here: headers that were read before, then Ollama's store."""
    from qwenops.model import header_cache
    from qwenops.model.gguf_header import parse_header
    from qwenops.model.read import model_of

    for kept in header_cache.every():
        if kept.path.suffix == ".gguf" and "qwen" in kept.path.name.lower():
            with contextlib.suppress(QwenopsError, OSError):
                header = parse_header(kept.path.read_bytes(), kept.file_bytes, kept.path)
                found = model_of(header, (kept.path,), kept.path.name)
                if _is_qwen(found):
                    yield found
    yield from _in_store()


def _in_store() -> Iterator[Model]:
    from qwenops.model.stored import stored_model
    from qwenops.runtime.discover import discover
    from qwenops.runtime.store import list_manifests, read_config

    store = discover(probe_devices=False).store
    if store is None:
        return
    for manifest in list_manifests(store).manifests:
        with contextlib.suppress(QwenopsError, OSError):
            if read_config(store, manifest).get("model_family") in _QWEN_FAMILIES:
                found = stored_model(store, manifest)
                if found is not None and _is_qwen(found):
                    yield found


def _is_qwen(model: Model) -> bool:
    return model.header.metadata.get("tokenizer.ggml.pre") == QWEN_TOKENIZER


def _size(model: ImageModel, size: str | None) -> Size | None:
    """The size that was asked for, or the one that the model takes by itself; an edit keeps its picture's."""
    if size is None and (not model.draws or not model.sizes):
        return None
    return choose_size(model, size)


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MOST_BYTES + 4)
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}", do=f"ls -l {file}") from None


def _decoded(raw: bytes) -> str:
    if len(raw) > MOST_BYTES:
        raise BadInput(f"more than {MOST_BYTES:,} bytes: that is no prompt", do="at most 1024 tokens are read")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"the prompt is not UTF-8 (byte {error.start})", do="save the file as UTF-8") from None


def _row(one: Finding) -> dict[str, Any]:
    return {
        "line": one.line,
        "column": one.column,
        "level": one.level,
        "code": one.code,
        "found": one.found,
        "why": one.why,
        "do": one.do,
        "from": one.source.id,
    }
