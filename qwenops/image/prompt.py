"""A prompt for a picture as its rules see it: its language, and the texts in quotes, which are to be seen."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from qwenops.errors import BadInput

Language = Literal["en", "zh"]

MOST_BYTES: Final = 64 * 1024
"""No model reads a thousandth of a megabyte of words: what is longer was not meant as a prompt."""

_PAIRS: Final = {'"': '"', "“": "”", "”": "”", "„": "“”", "«": "»", "「": "」", "『": "』", "＂": "＂"}
_CHINESE_CLOSINGS: Final = "”」』"


@dataclass(frozen=True)
class Quoted:
    """A text in quotes: `start` and `end` are offsets of its marks in the prompt, the end exclusive."""

    start: int
    end: int
    text: str
    opened: str
    closed: str


@dataclass(frozen=True)
class Prompt:
    """A prompt and what can be seen of it at once; offsets count characters from 0."""

    text: str

    @cached_property
    def scan(self) -> tuple[tuple[Quoted, ...], int | None]:
        """The quoted texts in order, and the offset of a mark that nothing closes."""
        return _scan(self.text)

    @property
    def quoted(self) -> tuple[Quoted, ...]:
        """The texts in quotes, in their order."""
        return self.scan[0]

    @cached_property
    def prose(self) -> str:
        """The prompt with every quoted text blanked out, so that offsets stay the same."""
        out = list(self.text)
        for one in self.quoted:
            out[one.start : one.end] = "\0" * (one.end - one.start)
        return "".join(out)

    @cached_property
    def language(self) -> Language:
        """The language of the words around the quoted texts: zh with any Chinese character, else en.

        As the makers' rewriter tells them apart (prompt_utils.py, get_caption_language), which looks at the whole
        prompt: an English prompt for a Chinese sign stays English here.
        """
        around = self.prose.strip("\0 \n\t")
        return "zh" if any("\u4e00" <= c <= "\u9fff" for c in (around or self.text)) else "en"

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, from 1."""
        before = self.text[:offset]
        return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1

    def texts(self) -> tuple[str, ...]:
        """The words that are to be seen in the picture, to the letter."""
        return tuple(one.text for one in self.quoted)


def prompt_of(text: str) -> Prompt:
    """The prompt as it was given, without the line end that a file has. Raises BadInput for none and for too much."""
    if len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise BadInput(
            f"a prompt of {len(text.encode('utf-8', 'surrogatepass')):,} bytes: no model reads so much",
            do="at most 1024 tokens, some 700 words, are read",
        )
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise BadInput("the prompt is not UTF-8", do="save the file as UTF-8")
    found = text.removeprefix("\ufeff").rstrip("\r\n").replace("\r\n", "\n")
    if not found.strip():
        raise BadInput("the prompt is empty", do='qwenops image prompt check "A cat on a red chair"')
    return Prompt(found)


def in_chinese_quotes(one: Quoted) -> bool:
    """Whether a text stands in the marks that a Chinese prompt has."""
    return one.closed in _CHINESE_CLOSINGS and one.opened in "“”「『"


def is_letter(character: str) -> bool:
    """Whether a character is a letter of any script."""
    return unicodedata.category(character).startswith("L")


def _scan(text: str) -> tuple[tuple[Quoted, ...], int | None]:
    found: list[Quoted] = []
    place = 0
    while place < len(text):
        mark = text[place]
        if mark not in _PAIRS or _inches(text, place):
            place += 1
            continue
        end = _closing(text, place + 1, mark)
        if end is None:
            return tuple(found), place
        found.append(Quoted(place, end + 1, text[place + 1 : end], mark, text[end]))
        place = end + 1
    return tuple(found), None


def _inches(text: str, place: int) -> bool:
    """Whether a straight mark outside of quotes says inches: 24" screen."""
    return text[place] == '"' and place > 0 and text[place - 1].isdigit()


def _closing(text: str, start: int, mark: str) -> int | None:
    """The closing mark; marks of the same pair may be nested, and a curly one may be closed by a straight one."""
    closing, depth = _PAIRS[mark], 0
    for place in range(start, len(text)):
        here = text[place]
        if here == mark and mark not in closing:
            depth += 1
        elif here in closing:
            if depth == 0:
                return place
            depth -= 1
    if mark == "“":
        straight = text.find('"', start)
        return None if straight < 0 else straight
    return None
