"""An answer that only repeats itself is cut while it is written: nothing that follows would be read."""

from __future__ import annotations

from typing import Final

_SPANS: Final = (480, 2000)
_TIMES: Final = 4


def stuck(text: str) -> bool:
    """Whether the last 480 characters are one piece at least four times, or the last 2,000 are.

    Stricter than what calls a finished answer a loop: a row of dots or an empty table on a page is shorter.
    """
    return any(len(text) >= span and _period(text[-span:], span // _TIMES) for span in _SPANS)


def _period(text: str, longest: int) -> int:
    """The length of the piece that a text repeats throughout, 0 where there is none of at most `longest`."""
    return next((n for n in range(1, longest + 1) if text[n:] == text[:-n]), 0)
