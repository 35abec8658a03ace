"""Find a blob that is no longer what its digest says.

A hard link is the user's own file under a second name: written in place, it changes in the store as well, and Ollama
then answers garbage without an error. What was recorded at the link (inode, size, mtime, ctime) tells at no cost
that nothing was written; where anything moved, only reading the file tells, and what was read is remembered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from qwenops.errors import QwenopsError
from qwenops.ollama import ledger
from qwenops.ollama.digest import Digested, Stamp, digest_file
from qwenops.ollama.manifest import WEIGHTS
from qwenops.ollama.rights import Reader, may_read, reader_named
from qwenops.ollama.types import FileHealth, Progress, silent
from qwenops.runtime.store import Layer, Manifest, blob_path
from qwenops.runtime.types import Store


def health(
    store: Store, manifest: Manifest, *, user: str | None = None, progress: Progress = silent
) -> tuple[FileHealth, ...]:
    """The state of every weights blob of a model. A file whose stamp moved since it was linked is read in full.

    `user` is who the server runs as: a blob that this user cannot read is a fault as well.
    """
    reader = reader_named(user, store.path) if user else None
    return tuple(_state(store, layer, reader, progress) for layer in _weights(manifest.layers))


def blob_is_right(store: Store, digest: str, *, source: Digested | None = None, progress: Progress = silent) -> bool:
    """Whether an existing blob still has the content of its digest; `source` is a file just read with that digest."""
    path = blob_path(store, digest)
    stamp = Stamp.of(path.stat())
    if source is not None:
        if stamp.size != source.stamp.size:
            return False
        if (stamp.device, stamp.inode) == (source.stamp.device, source.stamp.inode):
            return True
    link = ledger.link_of(store.path, digest.removeprefix("sha256:"))
    if link is None or link.stamp.same_content_likely(stamp):
        # Not placed by us: Ollama checked it when it was made, and nobody else has a second name for it.
        return link is not None or stamp.size > 0
    return _read_again(store, link, path, progress) is not None


def _weights(layers: Iterable[Layer]) -> Iterable[Layer]:
    return (layer for layer in layers if layer.media_type in WEIGHTS)


def _state(store: Store, layer: Layer, reader: Reader | None, progress: Progress) -> FileHealth:
    sha256 = layer.digest.removeprefix("sha256:")
    path = blob_path(store, layer.digest)
    link = ledger.link_of(store.path, sha256)
    found = FileHealth("ok", layer.digest, path)
    try:
        stamp = Stamp.of(path.stat())
    except FileNotFoundError:
        return replace(found, state="missing", why=f"the blob {path.name} is gone from {path.parent}")
    except OSError as error:
        return replace(found, state="unknown", why=f"{path} cannot be looked at: {error.strerror}")
    if link and _still_shared(link, stamp):
        found = replace(found, source=link.source)
    if stamp.size != layer.size_bytes:
        return replace(
            found, state="changed", why=_changed(link, path, f"it has {stamp.size} of {layer.size_bytes} bytes")
        )
    if link and not link.stamp.same_content_likely(stamp):
        try:
            again = _read_again(store, link, path, progress)
            if again is None:
                return replace(found, state="changed", why=_changed(link, path, "its content is another now"))
            link = again
        except QwenopsError as error:
            return replace(found, state="unknown", why=f"{path.name} was touched, and {error.message}")
    if reader and not may_read(path, reader):
        mode = path.stat().st_mode & 0o777
        return replace(
            found, state="unreadable", why=f"{reader.name} cannot read {found.source or path} (mode {mode:o})"
        )
    why = _about_the_source(link, stamp)
    return replace(found, state="hidden" if why else "ok", why=why)


def _still_shared(link: ledger.Link, blob: Stamp) -> bool:
    """Whether a blob is still what was linked: another inode in its place is a copy, whatever the ledger says."""
    return link.how == "reflinked" or (link.how == "linked" and link.stamp.inode == blob.inode)


def _read_again(store: Store, link: ledger.Link, path: Path, progress: Progress) -> ledger.Link | None:
    """Hash a blob whose stamp moved; if it is still right, its new state is the one to compare with from now on."""
    found = digest_file(path, progress=progress, fresh=True)
    if found.sha256 != link.sha256:
        return None
    how = link.how
    if how == "linked" and found.stamp.inode not in (link.stamp.inode, _inode(link.source)):
        how = "copied"
    known = replace(link, how=how, stamp=found.stamp)
    ledger.record_link(store.path, known)
    return known


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _changed(link: ledger.Link | None, path: Path, how: str) -> str:
    if link is None:
        return f"the blob {path.name} is damaged: {how}"
    if link.how == "linked":
        return f"{link.source} was overwritten in place after it was linked: {how}"
    return f"the blob of {link.source} was written to: {how}"


def _about_the_source(link: ledger.Link | None, blob: Stamp) -> str:
    """A sentence about the original of a link: it may be gone or another file, while the blob keeps the data."""
    if link is None or link.how != "linked":
        return ""
    try:
        stamp = Stamp.of(link.source.stat())
    except FileNotFoundError:
        return f"the original {link.source} is not there any more; the store keeps what was linked"
    except OSError:
        return ""
    if stamp.inode != blob.inode:
        return f"{link.source} is another file now; the store keeps the one that was linked"
    return ""
