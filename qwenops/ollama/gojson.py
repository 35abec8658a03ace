"""JSON as Go's encoder writes it, so that a params or config blob has the digest `ollama create` would give it."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def go_json(value: Any) -> bytes:
    """One line of JSON with a line feed: compact, `<>&` escaped, floats as Go writes a float32.

    Mappings keep their order; the caller sorts where Go would (a map), and does not where Go has a struct.
    """
    return (_encode(value) + "\n").encode()


def _encode(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_text(k)}:{_encode(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_encode(v) for v in value) + "]"
    if isinstance(value, float):
        return _float32(value)
    if isinstance(value, str):
        return _text(value)
    return json.dumps(value)


def _text(value: str) -> str:
    text = json.dumps(value, ensure_ascii=False)
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text


def _float32(value: float) -> str:
    """The shortest decimal that reads back as the same float32, in Go's notation."""
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    wanted = struct.pack("<f", value)
    for digits in range(1, 18):
        text = f"{value:.{digits}g}"
        if _packed(text) == wanted:
            return _go_notation(text)
    return repr(value)


def _packed(text: str) -> bytes | None:
    """The float32 of a decimal; None above the largest one, to which fewer digits can round up."""
    try:
        return struct.pack("<f", float(text))
    except OverflowError:
        return None


def _go_notation(text: str) -> str:
    """Go writes an exponent only below 1e-6 and from 1e21 on, and a negative one without a leading zero."""
    if "e" not in text:
        return text
    mantissa, _, exponent = text.partition("e")
    power = int(exponent)
    if -6 <= power < 21:
        digits = len(mantissa.replace(".", "").replace("-", ""))
        return f"{float(text):.{max(0, digits - 1 - power)}f}"
    return f"{mantissa}e{power}" if power < 0 else f"{mantissa}e+{power:02d}"
