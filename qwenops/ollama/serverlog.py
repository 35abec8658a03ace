"""The Ollama server's own log, from a moment on: its file, or the journal of its service."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from qwenops.errors import QwenopsError
from qwenops.runtime.types import Runtime

_JOURNAL_LIMIT_S = 20.0
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Mark:
    """A place in the log, taken before a load. `why` says why there is none."""

    path: Path | None = None
    offset: int = 0
    unit: str | None = None
    since: float = 0.0
    why: str = ""


def mark(runtime: Runtime) -> Mark:
    """Remember where the log ends now."""
    path = runtime.log_path
    if path is not None:
        try:
            with path.open("rb"):
                return Mark(path=path, offset=path.stat().st_size)
        except OSError as error:
            return Mark(why=f"the log {path} cannot be read: {error.strerror}")
    if runtime.unit:
        return Mark(unit=runtime.unit, since=time.time())
    return Mark(why="no log of this server is in reach")


def lines_since(place: Mark) -> tuple[str, str]:
    """(what was written since the mark, why there is nothing to read); a rotated log is read from its start."""
    if place.path is not None:
        try:
            with place.path.open("rb") as file:
                end = file.seek(0, 2)
                start = place.offset if end >= place.offset else 0
                file.seek(max(start, end - _MOST_BYTES))
                return file.read().decode("utf-8", "replace"), ""
        except OSError as error:
            return "", f"the log {place.path} cannot be read: {error.strerror}"
    if place.unit:
        return _journal(place.unit, place.since)
    return "", place.why


def _journal(unit: str, since: float) -> tuple[str, str]:
    from qwenops.runtime.child import ask_program

    why = ""
    for kind in ("--unit", "--user-unit"):
        # The journal counts whole seconds; one more line does no harm, since loads are told apart by their start.
        command = ["journalctl", kind, unit, "--since", f"@{int(since)}", "--output", "cat", "--no-pager", "--quiet"]
        try:
            answer = ask_program(command, limit_s=_JOURNAL_LIMIT_S)
        except QwenopsError as error:
            return "", f"the journal of {unit} cannot be read: {error.message}"
        if answer.out.strip():
            return answer.out, ""
        why = why or f"the journal of {unit} shows this user nothing (its readers are in the group systemd-journal)"
    return "", why
