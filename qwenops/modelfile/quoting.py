"""How a value is written so that Ollama reads it back: bare, in " or in \"\"\"; there is no escape.

Read in parser/parser.go of Ollama 0.32.14. A value ends at the first line end at which what was read so far, without
the white space around it, is a whole value: bare text always is, quoted text once its last characters are the closing
quotes. So quotes may stand inside a quoted value, unless they stand where a line ends.
"""

from __future__ import annotations

import re

from qwenops.errors import BadInput
from qwenops.modelfile.printable import first_dropped, keep_printable

_EDGE = " \t\r\n"
_NEWLINE = re.compile(r"[\r\n]")


def unquote(text: str) -> str | None:
    """The value that this stripped text says, or None while its quotes are still open."""
    for mark in ('"""', '"'):
        if text.startswith(mark):
            closed = len(text) >= 2 * len(mark) and text.endswith(mark)
            return text[len(mark) : -len(mark)] if closed else None
    return text


def read_value(text: str, start: int) -> tuple[str | None, int]:
    """Read the value that begins at `start`: the value (None when its quotes never close) and where it stopped.

    The line end that closes the value is consumed. Every other line end of a quoted value is kept as it is.
    """
    kept: list[str] = []
    length = 0
    opening: str | None = None
    at = start
    while True:
        end = _line_end(text, at)
        segment = keep_printable(text[at:end])
        kept.append(segment)
        if opening is None and (bare := segment.strip(_EDGE)):
            opening = '"""' if bare.startswith('"""') else '"' if bare.startswith('"') else ""
            segment = segment.lstrip(_EDGE)
        bare = segment.rstrip(_EDGE)
        whole = not opening or (bare.endswith(opening) and length + len(bare) >= 2 * len(opening))
        if whole or end == len(text):
            return unquote("".join(kept).strip(_EDGE)), min(end + 1, len(text))
        length += len(segment) + 1
        kept.append(text[end])
        at = end + 1


def quote(value: str, what: str = "the value") -> str:
    """Write a value so that Ollama reads back exactly it, in the plainest of the three forms that does.

    Raises BadInput, naming `what`, when none does: an unprintable character (Ollama drops it), or quotes at the end
    of a line inside a value that itself needs them.
    """
    for mark in ("", '"', '"""'):
        text = f"{mark}{value}{mark}"
        if (mark or value) and read_value(text + "\n", 0) == (value, len(text) + 1):
            return text
    dropped = first_dropped(value)
    if dropped:
        at, name = dropped
        line = value.count("\n", 0, at) + 1
        raise BadInput(
            f"{what} cannot be said in a Modelfile: Ollama drops the character {name} (line {line} of the value)",
            do="take the character out of the value",
        )
    raise BadInput(
        f'{what} cannot be said in a Modelfile: a line of it ends in """, which would close the value there',
        do='move the """ away from the end of the line',
    )


def _line_end(text: str, start: int) -> int:
    found = _NEWLINE.search(text, start)
    return found.start() if found else len(text)
