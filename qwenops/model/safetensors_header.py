"""The header of one safetensors file: which tensors it holds, and where; here or somewhere else.

Eight bytes with the header's length, the header as JSON, then the data. A file is believed only where all of it adds
up: each tensor's bytes are its shape times its type's, and together they fill the file without a hole or an overlap
(the safetensors library asks the same: github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from qwenops.errors import BadInput, PartMissing, QwenopsError
from qwenops.model.other_formats import what_else
from qwenops.model.remote import MOST_BYTES, RemoteFile
from qwenops.model.remote_prefix import Fill, read_remote_prefix
from qwenops.model.web import Limits

DTYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}
_LENGTH_BYTES = 8
_MOST = MOST_BYTES - _LENGTH_BYTES
_TELLING_BYTES = 32
_MOST_DIMENSIONS = 16
_MOST_TENSORS = 300_000
"""Twice what a mixture of 235 billion parameters has in one file. What JSON makes of more would fill the memory."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a safetensors file; `shape` in the file's order, `dtype` in its words (F16, I16, BF16)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True)
class SafetensorsHeader:
    """The tensor table of one file. `checksum` is the CRC-32 of the header's bytes."""

    tensors: tuple[StoredTensor, ...]
    metadata: Mapping[str, str]
    data_offset: int
    file_bytes: int
    checksum: int


def read_safetensors(path: Path) -> SafetensorsHeader:
    """The header of a file here. Raises BadInput where it is none or its figures cannot be, PartMissing unread."""
    try:
        with path.open("rb") as file:
            size_bytes = path.stat().st_size

            def fill(data: bytearray, up_to: int) -> None:
                data += file.read(up_to - len(data))
                if len(data) < up_to:
                    raise BadInput(f"{path} is cut off at byte {len(data)}, within its header")

            return read_header(fill, size_bytes, str(path))
    except OSError as e:
        raise PartMissing(f"{path} cannot be read: {e.strerror or e}", do=f"ls -l {path}") from None


def read_remote_safetensors(
    file: RemoteFile, *, offline: bool = False, limits: Limits | None = None
) -> SafetensorsHeader:
    """The header of a file somewhere else, by ranges; kept below the cache folder as any other header."""

    def read(fill: Fill, size_bytes: int | None) -> SafetensorsHeader:
        return read_header(fill, size_bytes, file.shown)

    return read_remote_prefix(file, read, offline=offline, limits=limits)[0]


def read_header(fill: Fill, size_bytes: int | None, shown: str) -> SafetensorsHeader:
    """Parse a header as `fill` gives its bytes; `size_bytes` is the whole file's length, None where nobody says it."""
    data = bytearray()
    fill(data, _LENGTH_BYTES)
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if not 2 <= length <= _MOST:
        raise _no_header(fill, data, length, shown)
    data_at = _LENGTH_BYTES + length
    if size_bytes is not None and data_at > size_bytes:
        raise BadInput(f"{shown} cannot be used: its header reaches past its end at byte {size_bytes}")
    fill(data, data_at)
    raw = bytes(data[_LENGTH_BYTES:data_at])
    metadata, tensors, end = _tensors(_parsed(raw, shown), shown)
    if size_bytes is not None and data_at + end != size_bytes:
        raise BadInput(f"{shown} cannot be used: by its header it has {data_at + end} bytes, and it has {size_bytes}")
    return SafetensorsHeader(tensors, metadata, data_at, data_at + end, zlib.crc32(raw))


def _no_header(fill: Fill, data: bytearray, length: int, shown: str) -> BadInput:
    """The error for a length that cannot be; a note of Git LFS in place of the file is named."""
    with contextlib.suppress(QwenopsError):
        fill(data, _TELLING_BYTES)
    what, do = what_else(bytes(data))
    if what:
        return BadInput(f"{shown} {what}", do=do)
    return BadInput(f"{shown} is not a safetensors file: a header of {length} bytes cannot be (at most {_MOST})")


def _parsed(raw: bytes, shown: str) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name is there twice")
        return found

    most = {b"{": _MOST_TENSORS, b"[": 2 * _MOST_TENSORS, b",": 8 * _MOST_TENSORS, b":": 4 * _MOST_TENSORS}
    if any(raw.count(mark) > n for mark, n in most.items()):
        raise BadInput(f"{shown} cannot be used: no model has more than {_MOST_TENSORS} tensors in a file")
    try:
        header = json.loads(raw, object_pairs_hook=once)
    except (ValueError, RecursionError) as e:
        raise BadInput(f"{shown} cannot be used: its header is not JSON as it must be ({e})") from None
    if not isinstance(header, dict):
        raise BadInput(f"{shown} cannot be used: its header is no table of tensors")
    return header


def _tensors(header: dict[str, Any], shown: str) -> tuple[Mapping[str, str], tuple[StoredTensor, ...], int]:
    """Metadata, tensors in the order of the data, and where the data end."""
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise BadInput(f"{shown} cannot be used: its metadata are no table of texts")
    placed = sorted((_row(name, row, shown) for name, row in header.items()), key=lambda row: (row[1], row[2]))
    at = 0
    for tensor, begin, end in placed:
        if begin != at:
            raise BadInput(f"{shown} cannot be used: {tensor.name} begins at {begin}, what is before it ends at {at}")
        at = end
    return metadata, tuple(tensor for tensor, _, _ in placed), at


def _row(name: str, row: Any, shown: str) -> tuple[StoredTensor, int, int]:
    try:
        dtype, shape, (begin, end) = row["dtype"], row["shape"], row["data_offsets"]
        whole = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
        size_bytes = prod(shape) * DTYPE_BYTES[dtype] if whole and len(shape) <= _MOST_DIMENSIONS else -1
    except (TypeError, KeyError, ValueError):
        whole, size_bytes = False, -1
    if not whole or size_bytes != end - begin:
        raise BadInput(f"{shown} cannot be used: what its header says of {name[:80]!r} cannot be: {str(row)[:120]}")
    return StoredTensor(name, dtype, tuple(shape), size_bytes), begin, end
