"""The vocabulary inside a header, to be put into the header of another variant of the same model.

Variants of one model differ in their tensors and in a few keys, not in their tokenizer, which is 98 % of a header. So
of a further variant two small pieces are enough: from the start to somewhere in the vocabulary, and from shortly
before its end. Both overlap with the vocabulary that is known and must be equal to it there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from qwenops.model.gguf_header import DEFAULT_ALIGNMENT
from qwenops.model.types import ArrayInfo, Header

HEAD_BYTES = 32 * 1024
_OVERLAP_BYTES = 8 * 1024
_ROOM_BYTES = 32 * 1024
"""How much more another variant's tensor table may take: names of quantized tensors are the same, keys may differ."""

_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


@dataclass(frozen=True)
class Vocabulary:
    """The bytes from the first long array of a header to the end of its last, with what stands before and behind.

    `mark` is the record that leads into it (key, type, count); `rest_bytes` is the length of the header behind it.
    """

    mark: bytes
    body: bytes
    rest_bytes: int

    def splice(self, head: bytearray, piece: Callable[[int, int], bytes]) -> bytearray | None:
        """The first bytes of another variant's header, of which `head` is the start; None where it is not alike.

        `piece(start, n_bytes)` fetches some of the variant's bytes; it is called once.
        """
        at = head.find(self.mark)
        if at < 0:
            return None
        start = at + len(self.mark)
        seen = min(len(head) - start, len(self.body))
        if seen < _OVERLAP_BYTES or head[start : start + seen] != self.body[:seen]:
            return None
        end = start + len(self.body)
        tail = piece(end - _OVERLAP_BYTES, _OVERLAP_BYTES + self.rest_bytes + _ROOM_BYTES)
        if tail[:_OVERLAP_BYTES] != self.body[-_OVERLAP_BYTES:]:
            return None
        return bytearray(head[:start] + self.body + tail[_OVERLAP_BYTES:])


def vocabulary_of(header: Header, prefix: bytes) -> Vocabulary | None:
    """The vocabulary in a header whose bytes are `prefix`; None where it has none that is worth it."""
    arrays = sorted(
        ((key, v) for key, v in header.metadata.items() if isinstance(v, ArrayInfo)), key=lambda pair: pair[1].offset
    )
    if not arrays:
        return None
    (key, first), (_, last) = arrays[0], arrays[-1]
    end = _end(last, prefix)
    if end - first.offset < 8 * HEAD_BYTES:
        return None
    name = key.encode()
    mark = struct.pack("<Q", len(name)) + name + struct.pack("<IIQ", _ARRAY, first.type, first.length)
    if prefix[first.offset - len(mark) : first.offset] != mark:
        return None
    rest = max(len(prefix), header.data_offset) - end + DEFAULT_ALIGNMENT
    return Vocabulary(mark, bytes(prefix[first.offset : end]), rest)


def _end(array: ArrayInfo, prefix: bytes) -> int:
    if array.type != _STRING:
        return array.offset + array.length * _SIZES[array.type]
    at, read = array.offset, struct.Struct("<Q").unpack_from
    for _ in range(array.length):
        at += 8 + read(prefix, at)[0]
    return at
