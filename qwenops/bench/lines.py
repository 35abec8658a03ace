"""A file of JSON lines that is only added to: what a run has finished, found again by the run that goes on.

A line that was cut off by a kill or a full disk is passed over; what it said is done again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class Lines:
    """JSON objects, one a line, each with the CRC-32 of what it says."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Iterator[dict[str, Any]]:
        """The whole lines in order; a damaged one is left out."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for line in lines:
            try:
                told = json.loads(line)
                entry = told["entry"]
                whole = told["crc"] == zlib.crc32(_text(entry).encode())
            except (ValueError, KeyError, TypeError):
                continue
            if whole and isinstance(entry, dict):
                yield entry

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add a line; when this returns, a kill of this process does not lose it."""
        text = _text(dict(entry))
        line = f'{{"crc": {zlib.crc32(text.encode())}, "entry": {text}}}\n'.encode()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(line if ends_whole(self.path) else b"\n" + line)


def ends_whole(path: Path) -> bool:
    """Whether a file is empty or ends with a line end."""
    size = path.stat().st_size
    if not size:
        return True
    with path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"


def _text(entry: dict[str, Any]) -> str:
    return json.dumps(entry, sort_keys=True)
