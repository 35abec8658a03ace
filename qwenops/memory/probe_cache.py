"""Answers of the probe, kept so that the same question is asked once. Safe to delete at any time.

A file an answer below the cache folder. What depends on the moment (free memory, what the runtime keeps free) is put
in anew when an answer is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qwenops import paths
from qwenops.memory.types import Band, DeviceNeed, HostNeed, Layers, LoadSettings, Need

FORMAT = 1
MOST_ANSWERS = 2000


def key_of(question: Mapping[str, Any]) -> str:
    """The name of an answer: equal for equal questions."""
    text = json.dumps({"format": FORMAT, **question}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def read(key: str, settings: LoadSettings) -> Need | None:
    """The kept answer, or None: also where the file is damaged, since asking again is cheap."""
    try:
        kept = json.loads(_path(key).read_text("utf-8"))
        return Need(
            rung="runtime",
            settings=settings,
            devices=tuple(DeviceNeed(**d) for d in kept["devices"]),
            host=HostNeed(**kept["host"]),
            layers=Layers(**kept["layers"]),
            band=Band(**kept["band"]),
            sources=kept["sources"],
            notes=tuple(kept["notes"]),
            flash_attn=kept["flash_attn"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(key: str, need: Need, server: Path | None = None) -> None:
    """Keep an answer, with who gave it. A cache that cannot be written is no error: the question is asked again."""
    answer = {
        "server": _stamp(server) if server else None,
        "devices": [asdict(d) for d in need.devices],
        "host": asdict(need.host),
        "layers": asdict(need.layers),
        "band": asdict(need.band),
        "sources": dict(need.sources),
        "notes": list(need.notes),
        "flash_attn": need.flash_attn,
    }
    path = _path(key)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, half_written = tempfile.mkstemp(dir=path.parent, prefix=".answer-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(answer, file)
            os.replace(half_written, path)
        except BaseException:
            os.unlink(half_written)
            raise
        _forget_oldest()


def of_gone_servers() -> dict[str, tuple[Path, ...]]:
    """The answers of each llama-server that is not there any more, or was replaced by another build, by its path."""
    gone: dict[str, list[Path]] = {}
    for path in sorted(folder().glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            server = json.loads(path.read_text("utf-8"))["server"]
            if server and server != _stamp(Path(server["path"])):
                gone.setdefault(server["path"], []).append(path)
    return {server: tuple(answers) for server, answers in gone.items()}


def folder() -> Path:
    """Where the answers are."""
    return paths.cache_dir() / "probes"


def _stamp(server: Path) -> dict[str, Any] | None:
    """What tells one build of a program from the next without reading it; None where it is gone."""
    try:
        status = server.stat()
    except FileNotFoundError:
        return None
    return {"path": str(server), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _path(key: str) -> Path:
    return folder() / f"{key}.json"


def _forget_oldest() -> None:
    answers = sorted(folder().glob("*.json"), key=lambda p: p.stat().st_mtime)
    for old in answers[: max(0, len(answers) - MOST_ANSWERS)]:
        old.unlink(missing_ok=True)
