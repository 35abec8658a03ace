"""A cell of the matrix: one reader asked everything in one way; what was answered is kept and not asked again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qwenops.bench.lines import Lines
from qwenops.bench.reading.engines.types import Failed, Reader
from qwenops.bench.reading.types import Answer, Asking, Question
from qwenops.errors import NotAllowed, PartMissing, QwenopsError
from qwenops.paths import cache_dir

_FORMAT = 1
OnPage = Callable[[int, int, float | None, str], None]
"""Called with the questions done, those in all, the seconds left where they are known, and what is being done."""


@dataclass
class Cell:
    """What has come of a cell so far. `here` counts what this run has asked; the rest was kept from earlier ones.

    `stopped` is the reason why the rest of it was not asked, None where nothing stopped it.
    """

    reader: Reader
    asking: Asking
    answers: dict[str, Answer] = field(default_factory=dict)
    failed: dict[str, Failed] = field(default_factory=dict)
    here: int = 0
    stopped: QwenopsError | None = None

    def settings(self) -> dict[str, Any]:
        """How it was asked, as plain JSON values."""
        return {**asdict(self.asking), "engine": dict(self.reader.engine)}


def kept_folder() -> Path:
    """Where all answers are kept: safe to delete at any time."""
    return cache_dir() / "reading"


def fill(cell: Cell, questions: Sequence[Question], on_page: OnPage) -> None:
    """Ask what is missing. What stops the cell is noted in it; only Ctrl-C goes through, with all kept."""
    try:
        lines = Lines(kept_folder() / f"{_key(cell.reader.identity, cell.asking)}.jsonl")
        with _alone(lines.path):
            _ask(cell, questions, lines, on_page)
    except QwenopsError as error:
        cell.stopped = error
    except OSError as error:
        cell.stopped = NotAllowed(
            f"{error.strerror or error}: {error.filename or kept_folder()}",
            do="free some room there and run the same command again: it goes on where it was",
        )


def _ask(cell: Cell, questions: Sequence[Question], lines: Lines, on_page: OnPage) -> None:
    kept = {entry["asked"]: entry["answer"] for entry in lines.read() if "asked" in entry and "answer" in entry}
    for question in questions:
        with contextlib.suppress(KeyError, TypeError):
            cell.answers[question.id] = Answer(**kept[question.key])
    missing = [question for question in questions if question.id not in cell.answers]
    if not missing:
        return
    pace = _Pace(len(questions), len(questions) - len(missing), on_page)
    pace.say("loading")

    def heard(question: Question, answer: Answer | Failed) -> None:
        if isinstance(answer, Failed):
            cell.failed[question.id] = answer
        else:
            lines.append({"id": question.id, "asked": question.key, "answer": answer.as_data()})
            cell.answers[question.id] = answer
            cell.here += 1
        pace.one_more(question.id)

    def on_words(question: Question, characters: int) -> None:
        pace.say(f"{question.id}: {characters} characters")

    cell.reader.read(cell.asking, missing, heard, on_words)


class _Pace:
    """How far a cell is, and how long the rest takes at the pace so far; the load counts once."""

    def __init__(self, of: int, done: int, on_page: OnPage) -> None:
        self.of, self.done, self.on_page = of, done, on_page
        self.first: float | None = None
        self.asked = 0

    def one_more(self, what: str) -> None:
        """One question is answered; the first one, with the load before it, starts the clock."""
        self.done += 1
        if self.first is None:
            self.first = time.monotonic()
        else:
            self.asked += 1
        self.say(what)

    def say(self, what: str) -> None:
        """Show where it is."""
        left = None
        if self.first is not None and self.asked:
            left = (time.monotonic() - self.first) / self.asked * (self.of - self.done)
        self.on_page(self.done, self.of, left, what)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody else asks this cell meanwhile. Raises PartMissing where somebody does."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_suffix(".lock"), timeout=0):
            yield
    except Timeout:
        raise PartMissing(
            "another qwenops asks the same of this model", do="wait for it, then run the same command again"
        ) from None


def _key(identity: Mapping[str, Any], asking: Asking) -> str:
    told = json.dumps({"format": _FORMAT, "reader": dict(identity), "asking": asdict(asking)}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:24]
