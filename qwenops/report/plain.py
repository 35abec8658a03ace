"""Text that came from elsewhere (names, what a model read), safe to show: nothing in it acts, nothing is hidden."""

from __future__ import annotations

import re

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# Marks that turn the direction of what stands around them: shown, since text that hides its order deceives.
_TURNS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def whole(text: str) -> str:
    """The text without lone surrogates, which no file and no terminal can hold: U+FFFD in their place."""
    return _LONE_SURROGATE.sub("\ufffd", text)


def plain(text: object) -> str:
    """The text with controls and marks of direction spelled out; line ends and tabs stay."""
    said = whole(str(text)).replace("\r\n", "\n")
    said = _TURNS.sub(lambda m: f"[U+{ord(m[0]):04X}]", said)
    return _CONTROL.sub(_picture, said)


def one_line(text: object, most: int = 0) -> str:
    """As plain, on one line; of more than `most` characters the middle is left out."""
    said = " ".join(plain(text).split())
    if most and len(said) > most:
        head = (most - 1) // 2
        return f"{said[:head]}…{said[len(said) - (most - 1 - head) :]}"
    return said


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"[U+{code:04X}]"
