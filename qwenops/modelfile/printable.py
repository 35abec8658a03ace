"""Which characters Ollama keeps in a Modelfile value: the rest it drops without a word."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from functools import lru_cache
from importlib import resources

_KEPT_ASCII = re.compile(r"[\x20-\x7e]*\Z")


def is_printable(char: str) -> bool:
    """Whether Ollama's parser keeps this character (Go's strconv.IsPrint, Unicode 15.0).

    Python's own str.isprintable follows the interpreter's Unicode version, so it would differ from one Python to
    the next. Spaces, tabs and line ends are not asked here: the parser treats them by their place.
    """
    if " " <= char <= "~":
        return True
    firsts, lasts = _ranges()
    code = ord(char)
    at = bisect_right(firsts, code) - 1
    return at >= 0 and code <= lasts[at]


def keep_printable(text: str) -> str:
    """The text as the parser keeps it: tabs stay, every other unprintable character is gone."""
    if _KEPT_ASCII.match(text):
        return text
    return "".join(c for c in text if c == "\t" or is_printable(c))


def first_dropped(text: str) -> tuple[int, str] | None:
    """Where the first character stands that the parser would drop, and its name; None when all would stay."""
    for at, char in enumerate(text):
        if char not in "\t\r\n" and not is_printable(char):
            name = unicodedata.name(char, "")
            return at, f"U+{ord(char):04X} {name}".rstrip()
    return None


@lru_cache(maxsize=1)
def _ranges() -> tuple[list[int], list[int]]:
    text = resources.files("qwenops.modelfile").joinpath("printable.txt").read_text(encoding="ascii")
    firsts, lasts = [], []
    for line in text.splitlines():
        for word in () if line.startswith("#") else line.split():
            first, _, last = word.partition("-")
            firsts.append(int(first, 16))
            lasts.append(int(last or first, 16))
    return firsts, lasts
