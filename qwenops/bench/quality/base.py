"""The reference's distributions on the disk: written chunk by chunk, checked by their sums, read by every variant.

    about.json   what the reference is, for people
    tokens       the text's tokens (int32), which a variant must cut in the same way
    rows         the chunks' records, one after another in the order in which they were finished
    chunks.jsonl where each record lies, its CRC-32, and the reference's own scores; written after the record

A record: scale, lowest, nll, top and count of each row (4 bytes each, array by array), the masks, the 16-bit steps.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from qwenops.bench.quality.divergence import Kept, Scores, mask_bytes
from qwenops.bench.quality.journal import Journal
from qwenops.errors import BadInput

_HEAD_BYTES = 5 * 4


def most_bytes(vocabulary: int, scored: int) -> int:
    """What a chunk's record takes if every token of the vocabulary is likely everywhere; mostly it is a third."""
    return scored * (_HEAD_BYTES + mask_bytes(vocabulary) + 2 * vocabulary)


class Base:
    """The kept distributions of one reference over one text in windows of one length."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = Journal(folder / "chunks.jsonl")
        self._entries = self.journal.entries()

    def describe(self, about: Mapping[str, Any], tokens: NDArray[np.int32]) -> None:
        """Note what the reference is and how it cut the text."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _replace(self.folder / "about.json", json.dumps(dict(about), indent=2, ensure_ascii=False).encode())
        _replace(self.folder / "tokens", tokens.tobytes())

    def tokens(self) -> NDArray[np.int32]:
        """The text as the reference cut it."""
        return np.fromfile(self.folder / "tokens", np.int32)

    def missing(self, chunks: int) -> list[int]:
        """Those of the first `chunks` that were not finished, or whose bytes are not those that were written."""
        return [chunk for chunk in range(chunks) if self._bytes(chunk) is None]

    def scores(self, chunk: int) -> Scores:
        """What the reference itself says of a chunk's tokens."""
        return Scores(self._entries[chunk]["arrays"]["nll"])

    def seconds(self, chunk: int) -> float:
        """How long the reference took for a chunk."""
        return float(self._entries[chunk]["seconds"])

    def add(self, chunk: int, kept: Kept, scores: Scores, seconds: float) -> None:
        """Write a chunk's record, then note it."""
        crc = size = 0
        with (self.folder / "rows").open("ab", buffering=0) as file:
            at = file.tell()
            for array in (kept.scale, kept.lowest, kept.nll, kept.top, kept.counts, kept.masks, kept.values):
                piece = np.ascontiguousarray(array).data.cast("B")
                crc, size = zlib.crc32(piece, crc), size + len(piece)
                _write_all(file, piece)
        facts = {"seconds": seconds, "at": at, "bytes": size, "crc": crc}
        self.journal.append(chunk, scores.as_data(), **facts)
        self._entries[chunk] = {"chunk": chunk, **facts, "arrays": scores.as_data()}

    def kept(self, chunk: int) -> Kept:
        """A chunk's record. Raises BadInput where it is not as it was written."""
        record = self._bytes(chunk)
        if record is None:
            raise BadInput(f"what was kept of the reference is damaged: {self.folder}", do="run the same command again")
        rows = len(self._entries[chunk]["arrays"]["nll"])
        heads = np.frombuffer(record, np.uint32, 5 * rows).reshape(5, rows)
        scale, lowest, nll = heads[:3].view(np.float32)
        top, counts = heads[3:].view(np.int32)
        values = int(counts.sum())
        masks = np.frombuffer(record, np.uint8, len(record) - 20 * rows - 2 * values, 20 * rows).reshape(rows, -1)
        steps = np.frombuffer(record, np.uint8, 2 * values, len(record) - 2 * values).view(np.uint16)
        return Kept(scale, lowest, nll, top, counts, masks, steps)

    def _bytes(self, chunk: int) -> bytes | None:
        entry = self._entries.get(chunk)
        if entry is None:
            return None
        try:
            with (self.folder / "rows").open("rb") as file:
                file.seek(entry["at"])
                record = file.read(entry["bytes"])
        except (OSError, KeyError, TypeError, ValueError):
            return None
        return record if len(record) == entry["bytes"] and zlib.crc32(record) == entry["crc"] else None


def _write_all(file: IO[bytes], piece: memoryview) -> None:
    """Nothing waits for the disk: what a power cut takes is found by its sum."""
    while piece:
        piece = piece[file.write(piece) :]


def _replace(path: Path, data: bytes) -> None:
    """Write a small file in one step."""
    half = path.with_name(f"{path.name}.part-{os.getpid()}")
    half.write_bytes(data)
    half.replace(path)
