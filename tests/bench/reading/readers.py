"""Readers whose answers are known, put where an engine stands: they see the pages' ids, never the scoring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qwenops.bench.reading.cells import Cell, fill
from qwenops.bench.reading.engines.types import Failed, Heard, OnWords
from qwenops.bench.reading.types import Answer, Asking, Ended, Page, Question
from qwenops.setup.reading import questions_of, row_data, scores_of
from qwenops.setup.seers import Row

Says = Callable[[Page], tuple[str, Ended] | Failed]


class KnownReader:
    """Answers each page by a rule; `asked` are the pages it was really shown."""

    source = label = "known"
    model = None

    def __init__(self, name: str, pages: Sequence[Page], says: Says) -> None:
        self.name, self.pages, self.says = name, {page.id: page for page in pages}, says
        self.asked: list[str] = []

    @property
    def engine(self) -> Mapping[str, Any]:
        return {"name": "known", "version": "1", "gpu": False}

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"known": self.name}

    def seen_as(self, asking: Asking, size: tuple[int, int]) -> tuple[int, int] | None:
        return size

    def read(self, asking: Asking, questions: Sequence[Question], heard: Heard, on_words: OnWords) -> None:
        for question in questions:
            self.asked.append(question.id)
            told = self.says(self.pages[question.id])
            if isinstance(told, Failed):
                heard(question, told)
            else:
                heard(question, Answer(told[0], told[1], 100, len(told[0]), 0.5, 1.0))

    def close(self) -> None:
        pass


def cell_of(reader: KnownReader, pages: Sequence[Page], asking: Asking | None = None) -> Cell:
    """The reader's cell, filled."""
    cell = Cell(reader, asking or Asking())
    fill(cell, questions_of(pages, reader, None), lambda *_: None)
    return cell


def row_of(reader: KnownReader, pages: Sequence[Page], *, strict: bool = False) -> dict[str, Any]:
    """What the command says of a reader."""
    row = Row("known", Asking(), cell_of(reader, pages))
    return row_data(row, pages, scores_of(row, pages, strict))
