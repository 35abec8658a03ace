"""What nobody needs any more: a thing on the disk, why it may go, and how it goes after one more look."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal[
    "link", "half-written", "ghost", "header", "probe", "part", "modelfile", "script", "download", "quality", "reading"
]


@dataclass(frozen=True)
class Waste:
    """One thing that may go. `files` are what its bytes are counted on.

    `take` looks once more and takes it away; it returns an empty text, or why the thing stayed. `shared` says that
    another file has the same disk blocks (a reflink), so that nothing comes free although this is a file of its own.
    """

    kind: Kind
    path: Path
    why: str
    files: tuple[Path, ...]
    take: Callable[[], str]
    shared: bool = False

    @property
    def size_bytes(self) -> int:
        """The length of its files, whatever of it lies on the disk."""
        return sum(status.st_size for status in map(status_of, self.files) if status)


def freed_bytes(things: Iterable[Waste]) -> tuple[int, ...]:
    """What the disk gets back for each thing when all of them go, in their order.

    A file with several names gives its blocks back with the last of them, so it counts only where all its names go.
    """
    seen: dict[tuple[int, int], int] = {}
    freed = []
    for thing in things:
        gain = 0
        for status in map(status_of, thing.files):
            if status is None or thing.shared:
                continue
            file = (status.st_dev, status.st_ino)
            seen[file] = seen.get(file, 0) + 1
            if seen[file] >= status.st_nlink:
                gain += allocated_bytes(status)
        freed.append(gain)
    return tuple(freed)


def allocated_bytes(status: os.stat_result) -> int:
    """What a file takes on the disk: a sparse file takes less than its length."""
    blocks = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else blocks * 512


def status_of(path: Path) -> os.stat_result | None:
    """The status of a plain file itself, no link followed; None for what is not there or is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def files_below(folder: Path) -> tuple[Path, ...]:
    """Every plain file below a folder."""
    return tuple(path for path in sorted(folder.rglob("*")) if status_of(path))


def idle_seconds(path: Path) -> float:
    """How long ago a file, or the newest file below a folder, was written; 0 where that cannot be told."""
    files = files_below(path) or (path,)
    with contextlib.suppress(OSError):
        return max(0.0, time.time() - max(file.lstat().st_mtime for file in files))
    return 0.0


def age(seconds: float) -> str:
    """How long ago, in one unit: '3 days', '1 hour'."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // length)
        if count:
            return f"{count} {unit}{'s' * (count > 1)}"
    return "moments"


def unlink_all(files: Sequence[Path]) -> str:
    """Take files away; returns why the first that could not be stayed, or an empty text."""
    for path in files:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            return f"{path}: {error.strerror or error}"
    return ""
