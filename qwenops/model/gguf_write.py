"""Write a GGUF whose header is whole and whose data is a hole: a model of zeros that takes as much disk as its header.

Format: docs/gguf.md of ggml, version 3; every text, length and offset is little-endian.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from qwenops.model.ggml_types import GGML_TYPES
from qwenops.units import pad

ALIGNMENT = 32
_VERSION = 3
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9

Value = str | int | float | bool | Sequence[str] | Sequence[int]
Row = tuple[str, tuple[int, ...], int]
"""Name, shape (innermost first) and number of the type of a tensor."""


def write_sparse(path: Path, metadata: Mapping[str, Value], tensors: Sequence[Row]) -> Path:
    """Write the header of a model and leave its data a hole of the right length, zeros to whoever reads it.

    A whole number becomes a 32-bit unsigned one, in a list a signed one. Raises OSError as the system does.
    """
    table, offset = b"", 0
    for name, shape, number in tensors:
        kind = GGML_TYPES[number]
        table += _text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        table += struct.pack("<IQ", number, offset)
        offset += pad(math.prod(shape) // kind.block * kind.bytes, ALIGNMENT)
    keys = b"".join(_text(key) + _value(value) for key, value in metadata.items())
    head = b"GGUF" + struct.pack("<IQQ", _VERSION, len(tensors), len(metadata)) + keys + table
    head += bytes(-len(head) % ALIGNMENT)
    with path.open("xb") as file:
        file.write(head)
        os.truncate(file.fileno(), len(head) + offset)
    return path


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", _FLOAT32, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value)
    if all(isinstance(one, str) for one in value):
        return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(_text(str(one)) for one in value)
    return struct.pack(f"<IIQ{len(value)}i", _ARRAY, _INT32, len(value), *value)
