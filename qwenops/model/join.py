"""One file out of the shards of a split model, as `llama-gguf-split --merge` would write it, a shard at a time.

A shard's data goes into the joined file at the place that the header keeps for it, so a shard can leave the disk as
soon as it is in, and what was stopped goes on with the first shard that is not. Source: tools/gguf-split/gguf-split.cpp
(gguf_merge) and ggml/src/gguf.cpp (gguf_set_kv, gguf_add_tensor), llama.cpp b10435: the first shard's keys in their
order, split.count last and 0, every tensor padded to 32 bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qwenops.errors import BadInput, CheckFailed
from qwenops.model.gguf_header import read_header
from qwenops.model.split import shard_stem
from qwenops.model.types import Header, Model, Tensor
from qwenops.units import MIB, pad

Progress = Callable[[str, int, int], None]

ALIGNMENT: Final = 32
_COUNT_KEY: Final = "split.count"
_U16: Final = 2
_CHUNK_BYTES: Final = 4 * MIB


@dataclass(frozen=True)
class Joined:
    """The file that the shards make: its header, and where the data of each shard begins and how long it is there."""

    head: bytes
    starts: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def file_bytes(self) -> int:
        """The length of the whole file."""
        return len(self.head) + sum(self.lengths)


def joined_name(model: Model) -> str:
    """The file name without the shards' numbers."""
    return f"{shard_stem(model.path) or model.path.stem}.gguf"


def joined(model: Model) -> Joined:
    """What the shards of a model make, from their headers alone. Raises BadInput where they cannot be one file."""
    header = model.header
    if header.alignment != ALIGNMENT:
        raise BadInput(
            f"{model.path.name} is aligned to {header.alignment} bytes, and its further shards to {ALIGNMENT}: they "
            "cannot be joined",
            do="take another quant",
        )
    lengths = tuple(_data_bytes(header, index) for index in range(len(model.shards)))
    before = [sum(lengths[:index]) for index in range(len(lengths))]
    count = _text(_COUNT_KEY) + struct.pack("<IH", _U16, 0)
    parts = [*_keys(model), count, *(_row(t, before[t.shard] + t.offset) for t in header.tensors)]
    keys = len(parts) - len(header.tensors)
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(header.tensors), keys) + b"".join(parts)
    head += bytes(-len(head) % ALIGNMENT)
    return Joined(head, tuple(len(head) + start for start in before), lengths)


def is_whole(path: Path, made: Joined) -> bool:
    """Whether a file is the joined one: its header to the byte, and its length."""
    return _begins_with(path, made.head) and path.stat().st_size == made.file_bytes


def shards_in(path: Path, made: Joined) -> int:
    """How many shards an unfinished file holds whole; 0 where it is not of this model."""
    if not _begins_with(path, made.head):
        return 0
    size = path.stat().st_size
    return sum(start + length <= size for start, length in zip(made.starts, made.lengths, strict=True))


def append(path: Path, made: Joined, index: int, shard: Path, progress: Progress = lambda *_: None) -> None:
    """Put the data of one shard into an unfinished file that holds those before it; it is on the disk afterwards.

    Raises CheckFailed where the shard is not the one whose header was read, OSError as the system does.
    """
    header, length = read_header(shard), made.lengths[index]
    if _data_bytes(header, 0) != length:
        raise CheckFailed(f"{shard.name} is not the shard whose header was read", do="run the command again")
    with path.open("r+b" if path.exists() else "w+b") as file, shard.open("rb") as source:
        if index == 0:
            file.truncate(0)
            file.write(made.head)
        file.seek(made.starts[index])
        file.truncate()
        source.seek(header.data_offset)
        left = length
        while left and (chunk := source.read(min(_CHUNK_BYTES, left))):
            file.write(chunk)
            left -= len(chunk)
            progress(f"joining {path.name.removesuffix('.joining')}", file.tell(), made.file_bytes)
        file.write(bytes(left))  # the last tensor's padding, which some writers leave away
        file.flush()
        os.fsync(file.fileno())


def _data_bytes(header: Header, shard: int) -> int:
    """The length of one shard's data, its last tensor padded too."""
    return max((pad(t.offset + t.size_bytes, ALIGNMENT) for t in header.tensors if t.shard == shard), default=0)


def _keys(model: Model) -> list[bytes]:
    """The first shard's keys as they are in the file, but how many shards there are."""
    places = model.header.keys_at
    end = max((end for _, end in places.values()), default=0)
    with model.path.open("rb") as file:
        raw = file.read(end)
    if not end or len(raw) < end:
        raise BadInput(f"{model.path} is not what it was when its header was read", do="run the command again")
    return [raw[start:end] for key, (start, end) in places.items() if key != _COUNT_KEY]


def _row(tensor: Tensor, offset: int) -> bytes:
    dims = len(tensor.shape)
    return _text(tensor.name) + struct.pack(f"<I{dims}QIQ", dims, *tensor.shape, tensor.type, offset)


def _text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(raw)) + raw


def _begins_with(path: Path, head: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(head)) == head
    except FileNotFoundError:
        return False
