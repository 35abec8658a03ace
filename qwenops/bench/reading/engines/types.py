"""The seam between what is asked and who answers: tests put readers here whose answers are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from qwenops.bench.reading.types import Answer, Asking, Question
from qwenops.model.types import Model


@dataclass(frozen=True)
class Failed:
    """A question that could not be answered, with the reason and what to do."""

    why: str
    do: tuple[str, ...] = ()


Heard = Callable[[Question, Answer | Failed], None]
OnWords = Callable[[Question, int], None]
"""Called while an answer is written, with the characters so far."""


class Reader(Protocol):
    """One model under one engine. `source` is what was typed, `label` what a table calls it."""

    source: str
    label: str

    @property
    def model(self) -> Model | None:
        """What is known of the model's files; None where they are out of reach from here."""
        ...

    @property
    def engine(self) -> Mapping[str, Any]:
        """The engine with its build: `name`, `version`, `gpu` and what else decides an answer."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the answers beside the question and how it is asked: digests, builds, settings."""
        ...

    def seen_as(self, asking: Asking, size: tuple[int, int]) -> tuple[int, int] | None:
        """The sides of a picture as the model sees it, in pixels; None for a family whose cells are not known."""
        ...

    def read(self, asking: Asking, questions: Sequence[Question], heard: Heard, on_words: OnWords) -> None:
        """Answer every question; each is heard as soon as it is known. Raises what stops the whole cell."""
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...
