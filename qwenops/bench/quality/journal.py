"""What a run has finished, a line a chunk: appended when it is known, read back by the run that goes on.

A line that was cut off by a kill or a full disk is passed over; its chunk is read again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qwenops.bench.lines import ends_whole

_KINDS = {"nll": np.float32, "nll_base": np.float32, "kld": np.float32, "same": np.bool_}


class Journal:
    """The finished chunks of one variant, or of the reference."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> dict[int, dict[str, Any]]:
        """By chunk; where one is there twice, the later line counts."""
        found: dict[int, dict[str, Any]] = {}
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return found
        for line in lines:
            entry = _parsed(line)
            if entry is not None:
                found[entry["chunk"]] = entry
        return found

    def append(self, chunk: int, arrays: Mapping[str, NDArray[Any]], **facts: Any) -> None:
        """Add a finished chunk; when this returns, a kill of this process does not lose it."""
        entry = {"chunk": chunk, **facts, "arrays": {name: _text(array) for name, array in arrays.items()}}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            line = json.dumps(entry).encode() + b"\n"
            file.write(line if ends_whole(self.path) else b"\n" + line)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
        entry["arrays"] = {name: _array(name, text) for name, text in entry["arrays"].items()}
        return entry if isinstance(entry["chunk"], int) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _text(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _array(name: str, text: str) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text, validate=True), _KINDS[name])
