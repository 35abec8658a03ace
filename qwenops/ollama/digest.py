"""SHA-256 of large files: read once, remembered by (device, inode, size, mtime), never trusted across a change."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from qwenops import paths
from qwenops.errors import BadInput
from qwenops.ollama.types import Progress, silent

_CHUNK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Stamp:
    """What tells one state of a file from another without reading it. Times in nanoseconds."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Stamp:
        """The stamp of a stat result."""
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)

    def same_content_likely(self, other: Stamp) -> bool:
        """Whether nothing was written between the two; a device number may differ after a reboot."""
        return (self.inode, self.size, self.mtime_ns, self.ctime_ns) == (
            other.inode,
            other.size,
            other.mtime_ns,
            other.ctime_ns,
        )


@dataclass(frozen=True)
class Digested:
    """A file's SHA-256 (64 hex digits) with the stamp it was read under."""

    path: Path
    sha256: str
    stamp: Stamp


def digest_file(path: Path, *, progress: Progress = silent, fresh: bool = False) -> Digested:
    """The SHA-256 of a file, from the cache where nothing moved since; `fresh` reads it in any case.

    A file that changes while it is read is read once more, then refused. Raises BadInput.
    """
    real = resolve(path)
    stamp = Stamp.of(real.stat())
    if not fresh and (known := remembered(stamp)):
        return Digested(real, known, stamp)
    for _ in range(2):
        found = _read(real, progress)
        if found:
            _remember(found)
            return found
    raise BadInput(
        f"{real} changed while it was read", do="wait until it is written in full, then run the command again"
    )


def resolve(path: Path) -> Path:
    """The regular file behind any symbolic links. Raises BadInput with the cause."""
    try:
        real = path.expanduser().resolve(strict=True)
        if not real.is_file():
            raise BadInput(f"{path} is not a file", do="name a GGUF file")
        if not os.access(real, os.R_OK):
            raise BadInput(f"{real} cannot be read: its mode is {real.stat().st_mode & 0o777:o}", do=f"ls -l {real}")
    except FileNotFoundError:
        dangling = " (a link to a file that is not there)" if path.is_symlink() else ""
        raise BadInput(f"{path} does not exist{dangling}", do=f"ls -l {path.parent}") from None
    except PermissionError as error:
        raise BadInput(f"{path} cannot be reached: {error.strerror}", do=f"ls -ld {path.parent}") from None
    except (OSError, RuntimeError) as error:
        raise BadInput(f"{path} cannot be opened: {error}") from None
    return real


def _read(path: Path, progress: Progress) -> Digested | None:
    """Hash the file; None when it changed meanwhile."""
    hasher = hashlib.sha256()
    with path.open("rb", buffering=0) as file, contextlib.closing(_chunks(file)) as chunks:
        before = Stamp.of(os.fstat(file.fileno()))
        done = 0
        for chunk in chunks:
            hasher.update(chunk)
            done += len(chunk)
            progress(f"reading {path.name}", done, before.size)
            if done > before.size:  # it grows, and could do so as fast as we read
                break
        after = Stamp.of(os.fstat(file.fileno()))
    with contextlib.suppress(FileNotFoundError):
        # ctime is left out: a link made to the file meanwhile moves it and writes nothing.
        now = Stamp.of(path.stat())
        if done == before.size and _unmoved(before, after) and _unmoved(before, now):
            return Digested(path, hasher.hexdigest(), now)
    return None


def _chunks(file: FileIO) -> Generator[memoryview, None, None]:
    """The file in pieces; the next one is read while the last one is hashed. (A map would be as fast, and would end
    the process where the file is cut off meanwhile.)"""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as reader:
        buffer, other = (memoryview(bytearray(_CHUNK_BYTES)) for _ in range(2))
        ahead = reader.submit(file.readinto, buffer)
        while count := ahead.result():
            buffer, other = other, buffer
            ahead = reader.submit(file.readinto, buffer)
            yield other[:count]


def _unmoved(a: Stamp, b: Stamp) -> bool:
    return (a.device, a.inode, a.size, a.mtime_ns) == (b.device, b.inode, b.size, b.mtime_ns)


@contextlib.contextmanager
def _cache() -> Iterator[sqlite3.Connection]:
    folder = paths.cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / "digests.db", timeout=10)
    try:
        with connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS digests (device TEXT, inode TEXT, size INTEGER, mtime_ns INTEGER,"
                " sha256 TEXT NOT NULL, PRIMARY KEY (device, inode, size, mtime_ns))"
            )
            yield connection
    finally:
        connection.close()


def remembered(stamp: Stamp) -> str | None:
    """The cached SHA-256 of a file in this state, if it was read before; a broken cache answers None."""
    with contextlib.suppress(sqlite3.Error, OSError), _cache() as cache:
        row = cache.execute(
            "SELECT sha256 FROM digests WHERE device = ? AND inode = ? AND size = ? AND mtime_ns = ?",
            (str(stamp.device), str(stamp.inode), stamp.size, stamp.mtime_ns),
        ).fetchone()
        return str(row[0]) if row else None
    return None


def remember(path: Path, sha256: str) -> None:
    """Note a digest that someone else just computed over the whole file (a download that was hashed on its way)."""
    _remember(Digested(path, sha256, Stamp.of(path.stat())))


def _remember(found: Digested) -> None:
    stamp = found.stamp
    # The cache saves time, nothing else: where it cannot be written the work goes on.
    with contextlib.suppress(sqlite3.Error, OSError), _cache() as cache:
        cache.execute(
            "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?)",
            (str(stamp.device), str(stamp.inode), stamp.size, stamp.mtime_ns, found.sha256),
        )
