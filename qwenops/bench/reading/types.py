"""Value types of a reading run: pages with what stands on them, and what an engine is asked and answers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Ended = Literal["stop", "length", "loop"]
"""How an answer ended: by itself, at its limit, or cut where it only repeated itself."""


@dataclass(frozen=True)
class Page:
    """A picture with known text. `fields` is what a form says by name, for a page that is asked for JSON.

    `png` is what is sent, `about` how it was made; `width` and `height` are pixels.
    """

    id: str
    kind: str
    truth: str
    png: bytes
    width: int
    height: int
    fields: Mapping[str, str] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """The picture's digest: two runs that have it looked at the same."""
        return hashlib.sha256(self.png).hexdigest()


@dataclass(frozen=True)
class Spoiled:
    """A page that cannot be shown, with the reason."""

    id: str
    why: str


@dataclass(frozen=True)
class PageSet:
    """Pages under one name, those that cannot be shown, and what to know of them."""

    name: str
    pages: tuple[Page, ...]
    spoiled: tuple[Spoiled, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """One thing to ask: words, and the pictures they are about."""

    id: str
    prompt: str
    pictures: tuple[bytes, ...]
    sizes: tuple[tuple[int, int], ...]

    @property
    def key(self) -> str:
        """What was asked, to the byte: an answer is kept under it."""
        told = hashlib.sha256(self.prompt.encode())
        for picture in self.pictures:
            told.update(hashlib.sha256(picture).digest())
        return told.hexdigest()


@dataclass(frozen=True)
class Answer:
    """What came back. Tokens as the engine counts them, `picture_tokens` without markers where it says them.

    Seconds: `prompt_s` until the first token (pictures included), `generate_s` for the rest.
    """

    text: str
    ended: Ended
    prompt_tokens: int
    tokens: int
    prompt_s: float
    generate_s: float
    picture_tokens: int | None = None
    encode_s: float | None = None

    @property
    def seconds(self) -> float:
        """What the question took; a load before it is not counted."""
        return self.prompt_s + self.generate_s

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values, from which Answer(**...) comes back."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Asking:
    """How a cell of the matrix is asked: the same for every page.

    `image_tokens` is the most that a picture may take, None the engine's own most.
    """

    image_tokens: int | None = None
    temperature: float = 0.0
    seed: int = 1
    most_tokens: int = 2048
