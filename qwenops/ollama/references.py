"""Every blob that any manifest of a store names: read so that nothing is overlooked, or refused as a whole.

Wider than the reader that lists models: it takes in every file below manifests/, of any registry, at any depth and
under any name, and every text in it that could be a digest. Who deletes by this list errs on the side of keeping.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qwenops.errors import CheckFailed, NotAllowed

OURS = ".qwenops-"
"""How the names of our own half-written files begin."""

_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")
# A manifest is a few KB. What is far larger is none, and what it names is not known.
_LIMIT_BYTES = 16 << 20


def referenced(store: Path) -> frozenset[str]:
    """The SHA-256 (64 lower-case hex digits) of every blob that a manifest of the store names.

    Raises NotAllowed where a folder or file there cannot be read, CheckFailed where a file is no manifest: what it
    would have named is not known then, and nothing of the store may go.
    """
    found: set[str] = set()
    for path in _manifests(store / "manifests"):
        found |= _named_in(path)
    return frozenset(found)


def _manifests(root: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        if isinstance(error, FileNotFoundError) and not os.path.lexists(error.filename):
            return  # a folder that was pruned while we looked
        raise _unreadable(Path(error.filename), error)

    seen = set()
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(folder) / name for name in files)


def _named_in(path: Path) -> set[str]:
    half_written = path.name.startswith(OURS)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LIMIT_BYTES:
            raise _no_manifest(path)
        text = path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError as error:
        if os.path.islink(path):
            raise _unreadable(path, error) from None
        return set()  # removed while we looked
    except OSError as error:
        raise _unreadable(path, error) from None
    named = {digest.lower() for digest in _DIGEST.findall(text)}
    try:
        # Ollama's decoder reads the first value and ignores what follows.
        value, _ = json.JSONDecoder().raw_decode(text.lstrip(" \t\r\n"))
        if not isinstance(value, dict):
            raise ValueError
        return named | {digest.lower() for said in _texts(value) for digest in _DIGEST.findall(said)}
    except (ValueError, RecursionError):
        if half_written:
            return named
        raise _no_manifest(path) from None


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, as it reads without its escapes."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, below in value.items():
            yield key
            yield from _texts(below)
    elif isinstance(value, list):
        for below in value:
            yield from _texts(below)


def _unreadable(path: Path, error: OSError) -> NotAllowed:
    return NotAllowed(f"{path} cannot be read: {error.strerror or error}", do=f"ls -ld {path}")


def _no_manifest(path: Path) -> CheckFailed:
    return CheckFailed(
        f"{path} is not a manifest, so which blobs it needs is not known", do=(f"ls -l {path}", "mend or remove it")
    )
