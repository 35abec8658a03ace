"""The right names that are nearest to a wrong one: repositories, tags, quants, files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path


def like(text: str, names: Iterable[str], *, most: int = 3, cutoff: float = 0.6) -> tuple[str, ...]:
    """The names that are most like a text, case and punctuation aside; at most so many."""
    import difflib

    by_plain = {_plain(name): name for name in names}
    found = difflib.get_close_matches(_plain(text), by_plain, n=most, cutoff=cutoff)
    return tuple(by_plain[plain] for plain in found)


def repositories_like(repo: str) -> tuple[str, ...]:
    """References of the catalogue's repositories that were probably meant: those made of a model of this name first.

    None where it is one of them.
    """
    from qwenops.model.catalog import catalog

    entries = catalog().values()
    if repo in {r.repo for e in entries for r in e.repos}:
        return ()
    made_of = [r.repo for e in entries if (e.original or "").lower() == repo.lower() for r in e.repos]
    known = [r.repo for e in entries for r in e.repos]
    return tuple(f"hf:{one}" for one in dict.fromkeys((*made_of, *like(repo, known, cutoff=0.8))))[:3]


def library_tags_like(name: str) -> tuple[str, ...]:
    """References of tags of Ollama's library that the catalogue knows and that were probably meant."""
    from qwenops.model.catalog import catalog

    return tuple(f"ollama:{tag}" for tag in like(name, (e.ollama for e in catalog().values() if e.ollama)))


def files_like(path: Path) -> tuple[Path, ...]:
    """Model files or folders of the same folder whose names are most like the one that is not there."""
    try:
        there = [p for p in path.parent.iterdir() if p.suffix.lower() == ".gguf" or (not path.suffix and p.is_dir())]
    except OSError:
        return ()
    return tuple(path.with_name(name) for name in like(path.name, (p.name for p in there), most=2, cutoff=0.7))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
