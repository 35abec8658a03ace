"""Whether an answer ran into a loop: its end is one piece of text, again and again."""

from __future__ import annotations

from typing import Final

_LEAST_TIMES: Final = 4
_LEAST_CHARACTERS: Final = 24
_LONGEST_UNIT: Final = 400


def repeated_end(text: str) -> str | None:
    """The shortest piece that the end of a text repeats at least four times over 24 characters, or None.

    What stands before the loop does not matter, nor does a last repetition that was cut off. A row of dots or of
    table lines is such an end as well: only an answer that did not end by itself should be asked.
    """
    end = text[-_LONGEST_UNIT * (_LEAST_TIMES + 1) :]
    for length in range(1, min(_LONGEST_UNIT, len(end) // _LEAST_TIMES) + 1):
        same = 0
        while same + length < len(end) and end[-1 - same] == end[-1 - same - length]:
            same += 1
        if same + length >= max(_LEAST_CHARACTERS, _LEAST_TIMES * length):
            return end[len(end) - length :]
    return None
