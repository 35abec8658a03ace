"""Every repetition on disk as it is made, so that a run that was stopped or killed can be gone on with.

A run is a file of JSON lines: what was asked first, then a line a turn. It is deleted once its results are in the
history.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from qwenops.bench.lines import ends_whole
from qwenops.bench.types import Timing
from qwenops.errors import BadInput, PartMissing
from qwenops.paths import data_dir

_FORMAT = 1


@dataclass(frozen=True)
class Kept:
    """A turn that is kept: which variant and test in which round, and its repetitions."""

    variant: int
    test: int
    round_: int
    timings: tuple[Timing, ...]


class Journal:
    """One run's file. Raises PartMissing where it cannot be written."""

    def __init__(self, run: str, path: Path) -> None:
        self.run, self.path = run, path

    @classmethod
    def begin(cls, asked: Mapping[str, Any]) -> Journal:
        """A new run."""
        run = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        journal = cls(run, folder() / f"{run}.jsonl")
        journal._write({"format": _FORMAT, "run": run, "asked": dict(asked)})
        return journal

    @classmethod
    def resume(cls, run: str) -> tuple[Journal, dict[str, Any], list[Kept]]:
        """A run by its id, or the newest by "last": what was asked of it, and what it has."""
        there = unfinished()
        wanted = there[-1] if run == "last" and there else run
        if wanted not in there:
            known = ", ".join(there) if there else "there is none"
            raise BadInput(f"no run {run} waits to be gone on with ({known})", do="qwenops bench speed MODEL...")
        journal = cls(wanted, folder() / f"{wanted}.jsonl")
        lines = journal._lines()
        first = next(lines, None)
        if not first or first.get("format") != _FORMAT:
            raise BadInput(f"{journal.path} is of another version of qwenops", do="qwenops bench speed MODEL...")
        turns = [
            Kept(one["variant"], one["test"], one["round"], tuple(Timing(**t) for t in one["timings"])) for one in lines
        ]
        return journal, first["asked"], turns

    def add(self, variant: int, test: int, round_: int, timings: tuple[Timing, ...]) -> None:
        """Keep a turn."""
        told = [asdict(timing) for timing in timings]
        self._write({"variant": variant, "test": test, "round": round_, "timings": told})

    def end(self) -> None:
        """Everything is in the history: the file is not needed any more."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _write(self, line: Mapping[str, Any]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                # behind a line that a kill cut off, this one begins anew, or both would be lost
                file.write(("" if ends_whole(self.path) else "\n") + json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise PartMissing(f"{self.path} cannot be written: {error.strerror}") from None

    def _lines(self) -> Iterator[dict[str, Any]]:
        """The whole lines; the last one may be half, where the process was killed while it wrote."""
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                yield value


def folder() -> Path:
    """Where unfinished runs lie."""
    return data_dir() / "bench"


def unfinished() -> list[str]:
    """The ids of unfinished runs, oldest first."""
    return sorted(path.stem for path in folder().glob("*.jsonl"))
