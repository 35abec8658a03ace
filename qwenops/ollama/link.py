"""Put a file's contents under a blob's name: a reflink where the file system has them, else a hard link, else a copy.

A reflink has its own inode, owner and mode and shares the disk blocks; a hard link is the same file under a second
name, so it brings its owner and mode along and changes when the original is written in place.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qwenops.errors import BadInput
from qwenops.ollama.digest import Digested, Stamp
from qwenops.ollama.types import Progress

PlacedHow = Literal["linked", "reflinked", "copied", "present"]

_FICLONE = 0x40049409  # _IOW(0x94, 9, int), linux/fs.h
_CHUNK_BYTES = 4 * 1024 * 1024
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EACCES)


@dataclass(frozen=True)
class Owner:
    """Who new files in the store belong to; None leaves them to us (we are that user, or not allowed to say)."""

    uid: int
    gid: int


def owner_for(store: Path) -> Owner | None:
    """The store's owner where we are root and it is someone else's: files that we make there must be theirs.

    Only for files and folders that we make ourselves; what exists keeps its owner and mode.
    """
    if getattr(os, "geteuid", lambda: 1)() != 0:
        return None
    status = store.stat()
    return Owner(status.st_uid, status.st_gid) if status.st_uid != 0 else None


def can_reflink(source: Path, folder: Path) -> bool:
    """Whether the folder's file system can share the source's blocks; tried on a file that never gets a name."""
    try:
        with _unnamed(folder) as target, source.open("rb") as file:
            _clone(file.fileno(), target)
            return True
    except OSError:
        return False


def place(
    found: Digested, target: Path, *, copy: bool, owner: Owner | None, progress: Progress
) -> tuple[PlacedHow, Stamp]:
    """Bring the digested file to `target`, which must not exist; says how and returns the target's stamp.

    With `copy` only a copy with its own inode will do. Raises BadInput when the source changed since it was hashed,
    OSError for the disk's own troubles; the target is then not there.
    """
    if not copy:
        if _reflink(found.path, target, owner):
            return "reflinked", _checked(found, target, same_inode=False)
        try:
            os.link(found.path, target)
        except FileExistsError:
            return "present", Stamp.of(target.stat())
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
        else:
            return "linked", _checked(found, target, same_inode=True)
    _copy(found, target, owner, progress)
    return "copied", Stamp.of(target.stat())


def _reflink(source: Path, target: Path, owner: Owner | None) -> bool:
    try:
        with _unnamed(target.parent) as temporary, source.open("rb") as file:
            _clone(file.fileno(), temporary)
            os.fchmod(temporary, 0o644)
            if owner:
                os.fchown(temporary, owner.uid, owner.gid)
            os.fsync(temporary)
            _name(temporary, target)
            return True
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return False


@contextlib.contextmanager
def _unnamed(folder: Path):  # type: ignore[no-untyped-def]
    """A file in the folder's file system without a name (Linux); gone when closed unless someone links it."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None:
        raise OSError(errno.ENOTSUP, "no unnamed files here")
    descriptor = os.open(folder, flag | os.O_RDWR, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _name(descriptor: int, target: Path) -> None:
    """Give an unnamed file its name. Only with a folder's descriptor does os.link follow the link in /proc."""
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.link(f"/proc/self/fd/{descriptor}", target.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)


def _clone(source: int, target: int) -> None:
    import fcntl

    fcntl.ioctl(target, _FICLONE, source)


def _checked(found: Digested, target: Path, *, same_inode: bool) -> Stamp:
    """Refuse a target whose source moved between the hash and the link; nothing stays behind."""
    source, stamp = Stamp.of(found.path.stat()), Stamp.of(target.stat())
    moved = (source.inode, source.size, source.mtime_ns) != (found.stamp.inode, found.stamp.size, found.stamp.mtime_ns)
    if moved or stamp.size != found.stamp.size or (same_inode and stamp.inode != found.stamp.inode):
        target.unlink()
        raise BadInput(f"{found.path} changed after it was read", do="run the command again")
    return stamp


def _copy(found: Digested, target: Path, owner: Owner | None, progress: Progress) -> None:
    temporary = target.with_name(f"{target.name}.qwenops-{secrets.token_hex(4)}")
    hasher = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    done = 0
    try:
        with found.path.open("rb", buffering=0) as source, temporary.open("xb", buffering=0) as sink:
            while count := source.readinto(buffer):
                hasher.update(buffer[:count])
                _write_all(sink.fileno(), buffer[:count])
                done += count
                progress(f"copying {found.path.name}", done, found.stamp.size)
            _own(sink.fileno(), owner)
            os.fsync(sink.fileno())
        if hasher.hexdigest() != found.sha256:
            raise BadInput(f"{found.path} changed after it was read", do="run the command again")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _own(descriptor: int, owner: Owner | None) -> None:
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, 0o644)
    if owner:
        os.fchown(descriptor, owner.uid, owner.gid)
