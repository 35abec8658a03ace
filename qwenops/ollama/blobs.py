"""The writing side of a model store: small blobs, folders and the manifest, each undone if a later step fails."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from qwenops.errors import CheckFailed
from qwenops.ollama.link import Owner


@dataclass
class Undo:
    """Steps to take back when the block is left by any error, Ctrl-C included; forgotten when it succeeds."""

    steps: list[Callable[[], object]] = field(default_factory=list)

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.roll_back()

    def roll_back(self) -> None:
        """Take every step back, the last one first; a step that cannot be taken back does not stop the others."""
        while self.steps:
            with contextlib.suppress(OSError):
                self.steps.pop()()

    def on_failure(self, step: Callable[[], object]) -> None:
        """Remember how to take back what was just done."""
        self.steps.append(step)


def make_folders(folder: Path, undo: Undo, owner: Owner | None) -> None:
    """Make a folder and what lacks above it, readable by all, owned as the store is."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        try:
            new.mkdir(mode=0o755)
        except FileExistsError:
            continue
        undo.on_failure(new.rmdir)
        os.chmod(new, 0o755)
        if owner:
            os.chown(new, owner.uid, owner.gid)


def write_blob(path: Path, data: bytes, undo: Undo, owner: Owner | None) -> None:
    """Store a few bytes under the name of their digest, unless they are there."""
    if path.is_file() and path.read_bytes() == data:
        return
    existed = path.exists()
    write_atomically(path, data, owner, temporary_in=path.parent)
    if not existed:
        undo.on_failure(path.unlink)


def write_atomically(path: Path, data: bytes, owner: Owner | None, *, temporary_in: Path) -> None:
    """Write a file so that readers see all of it or nothing: temporary file, fsync, rename, fsync of the folder."""
    temporary = temporary_in / f".qwenops-{secrets.token_hex(6)}"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        if owner:
            os.chown(temporary, owner.uid, owner.gid)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make new names in a folder durable, where the system lets folders be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def store_lock(store: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the store against a second qwenops that registers or removes at the same time.

    The lock is on the blobs folder itself, so it leaves no file behind and works across users. Without `wait` raises
    CheckFailed where another one holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows: no lock on folders; names are still replaced atomically
        yield
        return
    descriptor = os.open(store / "blobs", os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise CheckFailed(
                f"another qwenops is registering or removing a model in {store}", do="wait until it has ended"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)
