"""GGUF files made by hand, byte by byte, so that a test can lie in any field."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

from qwenops.model.ggml_types import GGML_TYPES

U32, F32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def u32(key: str, value: int) -> bytes:
    return pair(key, U32, struct.pack("<I", value))


def string(key: str, value: str) -> bytes:
    return pair(key, STRING, text(value))


def strings(key: str, values: list[str]) -> bytes:
    return pair(key, ARRAY, struct.pack("<IQ", STRING, len(values)) + b"".join(text(v) for v in values))


def row(name: str | bytes, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


@dataclass
class Gguf:
    """The parts of a file; each can be replaced by a lie before it is written."""

    pairs: list[bytes] = field(default_factory=lambda: [string("general.architecture", "llama")])
    rows: list[bytes] = field(default_factory=list)
    magic: bytes = b"GGUF"
    version: int = 3
    tensor_count: int | None = None
    key_count: int | None = None
    data_bytes: int = 0

    def header(self) -> bytes:
        tensors = len(self.rows) if self.tensor_count is None else self.tensor_count
        keys = len(self.pairs) if self.key_count is None else self.key_count
        return b"".join((self.magic, struct.pack("<IQQ", self.version, tensors, keys), *self.pairs, *self.rows))

    def content(self) -> bytes:
        head = self.header()
        return head + bytes(-len(head) % 32 + self.data_bytes)

    def write(self, path: Path) -> Path:
        path.write_bytes(self.content())
        return path


def model_file(
    path: Path,
    architecture: str = "llama",
    tensors: tuple[tuple[str, tuple[int, ...], int], ...] = (("token_embd.weight", (32, 4), 0),),
    **keys: int | str | list[str],
) -> Path:
    """A whole small file: `keys` with a double underscore for the dot; tensor data are a hole of zeros."""
    pairs = [string("general.architecture", architecture)]
    for key, value in keys.items():
        name = key.replace("__", ".")
        pairs.append(
            u32(name, value)
            if isinstance(value, int)
            else string(name, value)
            if isinstance(value, str)
            else strings(name, value)
        )
    rows, offset, end = [], 0, 0
    for name, shape, kind in tensors:
        rows.append(row(name, shape, kind, offset))
        elements = 1
        for dim in shape:
            elements *= dim
        end = offset + elements // GGML_TYPES[kind].block * GGML_TYPES[kind].bytes
        offset = -(-end // 32) * 32
    return Gguf(pairs=pairs, rows=rows, data_bytes=end).write(path)
