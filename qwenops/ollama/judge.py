"""What is judged before a byte is written: who could read a link, whether a copy has room, whose model stands there."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qwenops.errors import BadInput, NotAllowed, PartMissing
from qwenops.ollama import ledger
from qwenops.ollama.contents import Contents
from qwenops.ollama.link import can_reflink
from qwenops.ollama.rights import Reader, may_read, reader_named
from qwenops.runtime.names import Name
from qwenops.runtime.store import Manifest, list_manifests
from qwenops.runtime.types import Runtime, Store
from qwenops.units import human


@dataclass(frozen=True)
class Before:
    """What the store had under the name: its spelling, manifest and bytes."""

    name: Name
    manifest: Manifest | None = None
    raw: bytes | None = None


def judge_rights(contents: Contents, runtime: Runtime, store: Store, *, copy: bool) -> None:
    """Refuse files that a hard link would bring into the store unreadable for the server. Raises NotAllowed."""
    reader = reader_named(runtime.user, nearest(store.path))
    if copy or reader is None:
        return
    for _, path in contents.files:
        if not may_read(path, reader) and not can_reflink(path, nearest(store.path / "blobs")):
            raise unreadable(path, path, reader, store)


def unreadable(path: Path, source: Path, reader: Reader, store: Store) -> NotAllowed:
    """The error for a file that the server's user cannot read; `source` is the user's own name for it."""
    mode = path.stat().st_mode & 0o777
    room = f"{human(path.stat().st_size)}, {human(free_bytes(store))} free"
    return NotAllowed(
        f"Ollama runs as {reader.name}, who cannot read {source} (owner {_owner_name(path)}, mode {mode:o})",
        do=(f"chmod o+r {source}", f"or add --copy ({room})"),
    )


def judge_room(contents: Contents, store: Store, *, copy: bool) -> None:
    """Refuse a copy that the store's disk has no room for. Raises PartMissing."""
    blobs = nearest(store.path / "blobs")
    here = blobs.stat().st_dev
    needed = sum(path.stat().st_size for _, path in contents.files if copy or path.stat().st_dev != here)
    if needed > free_bytes(store):
        raise PartMissing(
            f"{store.path} has {human(free_bytes(store))} free, and a copy of the model takes {human(needed)}",
            do=(
                f"df -h {store.path}",
                "move the model to the store's file system, where a link costs nothing",
            ),
        )


def what_is_there(store: Store, name: Name) -> Before:
    """The model of that name in the store, in the spelling it has there: to Ollama, case makes no difference."""
    for manifest in list_manifests(store).manifests:
        if manifest.name.folded == name.folded:
            return Before(manifest.name, manifest, manifest.path.read_bytes())
    path = store.path / "manifests" / name.relative_path
    # A file that is there and no manifest: kept, so that it can be put back.
    return Before(name, None, path.read_bytes() if path.is_file() else None)


def refuse_foreign(before: Before, store: Store, *, replace: bool) -> None:
    """Refuse to overwrite a model that qwenops did not make, or that was changed since. Raises BadInput."""
    if before.raw is None or replace:
        return
    made = ledger.made_here(store.path, before.name.short)
    if made is None or before.manifest is None or made.digest != before.manifest.digest:
        why = "was not made by qwenops" if made is None else "was changed since qwenops made it"
        raise BadInput(
            f"{before.name.short} exists in Ollama with other content and {why}",
            do=("choose another name", "or add --replace"),
        )


@contextlib.contextmanager
def clear_disk_errors(store: Store, contents: Contents) -> Iterator[None]:
    """Turn the system's own errors while writing into ours; by then everything was taken back."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PartMissing(
                f"The disk of {store.path} is full ({human(free_bytes(store))} free of what"
                f" {human(contents.total_bytes)} of weights would need as a copy); nothing was changed",
                do=(f"df -h {store.path}", "make room, then run the command again"),
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise NotAllowed(
                f"{error.filename or store.path} cannot be written: {error.strerror}; nothing was changed",
                do=f"ls -ld {store.path} {store.path / 'blobs'}",
            ) from None
        raise


def nearest(path: Path) -> Path:
    """The path itself, or the first folder above it that exists."""
    # os.path says no where a folder above may not be looked into; Path.exists raises.
    while not os.path.exists(path) and path != path.parent:
        path = path.parent
    return path


def free_bytes(store: Store) -> int:
    """Free bytes on the store's disk."""
    return shutil.disk_usage(nearest(store.path)).free


def _owner_name(path: Path) -> str:
    with contextlib.suppress(KeyError, NotImplementedError, ImportError):
        return path.owner()
    return str(path.stat().st_uid) if hasattr(os, "getuid") else "someone else"
