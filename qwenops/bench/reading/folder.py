"""A user's own pages: pictures in a folder, with what stands on them beside each as .txt or, for a form, .json."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Final

from qwenops.bench.quality.text import decoded
from qwenops.bench.reading.types import Page, PageSet, Spoiled
from qwenops.errors import BadInput, QwenopsError
from qwenops.model.picture import SUFFIXES, read_picture, unfolded

MOST_PIXELS: Final = 64_000_000
"""A picture of more is not decoded: a model gets at most 17 million pixels of it, and a bomb is small on the disk."""
_MOST_TEXT: Final = 1 << 20


def folder_pages(folder: Path) -> PageSet:
    """Every picture of a folder that has its text beside it, as one set by the folder's name.

    A picture that is none, is too large or cannot be decoded, and a text that cannot be read, spoil their page alone.
    Pictures without a text are left out with a note. Raises BadInput where no page is left.
    """
    if not folder.is_dir():
        raise BadInput(
            f"{folder} is not a folder" if folder.exists() else f"no such folder: {folder}", do="--folder DIR"
        )
    pages: list[Page] = []
    spoiled: list[Spoiled] = []
    notes: list[str] = []
    alone = []
    for path in unfolded((folder,), SUFFIXES):
        truth = next((p for p in (path.with_suffix(".json"), path.with_suffix(".txt")) if p.is_file()), None)
        if truth is None:
            alone.append(path.name)
            continue
        try:
            page, note = _page(path, truth)
        except QwenopsError as error:
            spoiled.append(Spoiled(path.name, error.message))
            continue
        pages.append(page)
        notes += [note] if note else []
    if alone:
        shown = ", ".join(alone[:3]) + (" …" if len(alone) > 3 else "")
        notes.append(f"{len(alone)} pictures have no .txt or .json beside them and were left out: {shown}")
    if not pages and not spoiled:
        raise BadInput(
            f"{folder} has no pictures with their text beside them",
            do="page.png with page.txt, or page.json for fields",
        )
    return PageSet(folder.resolve().name, tuple(pages), tuple(spoiled), tuple(notes))


def _page(path: Path, truth: Path) -> tuple[Page, str]:
    picture = read_picture(path)
    if picture.width * picture.height > MOST_PIXELS:
        raise BadInput(f"{path.name} has {picture.width} x {picture.height} pixels, and 64 million are the most")
    _check_decodes(path)
    raw = _bytes_of(truth)
    if len(raw) > _MOST_TEXT:
        raise BadInput(f"{truth.name} is larger than 1 MiB")
    text, note = decoded(truth, raw)
    fields = _fields(truth, text) if truth.suffix == ".json" else None
    words = "\n".join(fields.values()) if fields else text
    if not words.strip():
        raise BadInput(f"{truth.name} is empty: nothing is known of what stands there")
    return Page(path.name, "own", words, _sendable(path), picture.width, picture.height, fields), note


def _check_decodes(path: Path) -> None:
    """Decode it once: a picture that is cut off would be refused by every engine in its own words."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(f"{path.name} cannot be decoded: {error}") from None


def _sendable(path: Path) -> bytes:
    """The file as it is; a WebP as PNG, which is what Ollama makes of it and what the library can decode."""
    from PIL import Image

    raw = _bytes_of(path)
    if path.suffix.lower() != ".webp":
        return raw
    file = io.BytesIO()
    with Image.open(io.BytesIO(raw)) as image:
        image.convert("RGB").save(file, "PNG")
    return file.getvalue()


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path.name} cannot be read: {error.strerror or error}") from None


def _fields(path: Path, text: str) -> dict[str, str]:
    try:
        told = json.loads(text)
    except ValueError as error:
        raise BadInput(f"{path.name} is not JSON: {error}") from None
    if not isinstance(told, dict) or not told or not all(isinstance(v, (str, int, float)) for v in told.values()):
        raise BadInput(f"{path.name} must be one object of names and single values")
    return {str(name): str(value) for name, value in told.items()}
