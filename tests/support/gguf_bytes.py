"""Write a GGUF by hand: a true header, and a hole where the data would be."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TYPES = {
    "F32": (0, 1, 4),
    "F16": (1, 1, 2),
    "BF16": (30, 1, 2),
    "Q4_0": (2, 32, 18),
    "Q8_0": (8, 32, 34),
    "Q4_K": (12, 256, 144),
    "Q5_K": (13, 256, 176),
    "Q6_K": (14, 256, 210),
    "IQ4_XS": (23, 256, 136),
    "MXFP4": (39, 32, 17),
}

Row = tuple[str, tuple[int, ...], str]
"""Name, shape (innermost first) and type of a tensor."""


def write_gguf(path: Path, metadata: dict[str, Any], tensors: Sequence[Row], alignment: int = 32) -> Path:
    """A GGUF version 3 whose data is a hole of the right length."""
    out = bytearray(struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata)))
    for key, value in metadata.items():
        out += _text(key) + _value(value)
    offset = 0
    for name, shape, type_ in tensors:
        number, block, size = TYPES[type_]
        out += _text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in shape)
        out += struct.pack("<IQ", number, offset)
        length = math.prod(shape) // block * size
        offset += -(-length // alignment) * alignment
    out += bytes(-len(out) % alignment)
    path.write_bytes(out)
    os.truncate(path, len(out) + offset)
    return path


def _text(s: str) -> bytes:
    data = s.encode()
    return struct.pack("<Q", len(data)) + data


def _value(v: Any) -> bytes:
    if isinstance(v, bool):
        return struct.pack("<I?", 7, v)
    if isinstance(v, int):
        return struct.pack("<II", 4, v)
    if isinstance(v, float):
        return struct.pack("<If", 6, v)
    if isinstance(v, str):
        return struct.pack("<I", 8) + _text(v)
    first = v[0]
    if isinstance(first, bool):
        return struct.pack("<IIQ", 9, 7, len(v)) + bytes(v)
    if isinstance(first, int):
        return struct.pack(f"<IIQ{len(v)}i", 9, 5, len(v), *v)
    if isinstance(first, float):
        return struct.pack(f"<IIQ{len(v)}f", 9, 6, len(v), *v)
    return struct.pack("<IIQ", 9, 8, len(v)) + b"".join(_text(s) for s in v)
