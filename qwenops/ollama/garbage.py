"""What of a store may go: blobs that qwenops placed and no manifest names, and what it left half written.

Three things must hold for a blob, and are looked at again right before it goes: the ledger says that qwenops placed it
and it is still that file; no manifest of the store names it, and every manifest could be read; no process has it open.
While a pull or a registration is going on nothing goes.

What is left of a race: Ollama looks whether a blob is there when a pull or a create begins, and writes the manifest at
its end. One that found all its blobs in place leaves no trace until then. So a blob is first moved aside, the manifests
are read once more, and it comes back if one of them names it now. A manifest that is written after that second look,
for a blob that was seen before the move, is a model without its blob: pulling or registering it again mends it, and a
file that was linked is still where it was linked from.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from qwenops.errors import CheckFailed, NotAllowed, QwenopsError
from qwenops.ollama import ledger
from qwenops.ollama.blobs import store_lock, sync_folder
from qwenops.ollama.ledger import Link
from qwenops.ollama.references import OURS, referenced
from qwenops.waste import Waste, age, status_of, unlink_all

# Ollama's own patience with blobs that nobody names yet (layerPruneGracePeriod, server/images.go, v0.32.14).
GRACE_S = 3600.0

_BLOB = re.compile(r"sha256-[0-9a-fA-F]{64}")
_HALF_COPY = re.compile(r"sha256-[0-9a-fA-F]{64}\.qwenops-[0-9a-f]{8}")


def garbage_in(store: Path) -> tuple[Waste, ...]:
    """What of a store may go as things stand now. Changes nothing.

    Raises NotAllowed or CheckFailed, saying why, where nothing of it may go: a manifest cannot be read or is none, a
    pull or a registration is going on, its blobs are another store's too.
    """
    blobs = store / "blobs"
    try:
        if not blobs.is_dir():
            return ()
        os.listdir(blobs)
    except OSError as error:
        raise NotAllowed(f"{blobs} cannot be read: {error.strerror}", do=f"ls -ld {blobs}") from None
    with store_lock(store, wait=False):
        named = _needed(store)
        links = [link for link in ledger.links_of(store) if link.sha256 not in named and _is_ours(store, link)]
        halves = list(_half_written(store))
        if (links or halves) and not os.access(blobs, os.W_OK | os.X_OK):
            raise NotAllowed(
                f"{store} cannot be written, and {len(links) + len(halves)} of its files could go",
                do="restart Ollama: when it starts it removes blobs that no model needs and that are an hour old",
            )
        return (*(_link_waste(store, link) for link in links), *(_half_waste(store, path) for path in halves))


def _needed(store: Path) -> frozenset[str]:
    """The blobs that manifests name; raises where not all of that can be known, or it is about to change."""
    if (store / "blobs").resolve().parent != store.resolve():
        raise CheckFailed(
            f"{store / 'blobs'} leads to another folder, whose other models are not known",
            do=f"OLLAMA_MODELS={(store / 'blobs').resolve().parent} qwenops gc",
        )
    for name in os.listdir(store / "blobs"):
        if not _BLOB.fullmatch(name) and not _HALF_COPY.fullmatch(name) and not name.startswith(OURS):
            _must_be_left_behind(store / "blobs" / name)
    return referenced(store)


def _must_be_left_behind(path: Path) -> None:
    """Raise where a file that is no blob yet is still being written: a part of a pull, an upload, a conversion."""
    from qwenops.machine.open_files import holder_of

    status = status_of(path)
    if status is None:
        return
    idle_s = time.time() - status.st_mtime
    holder = holder_of(path.name)
    if idle_s < GRACE_S or holder:
        since = f"{holder} has it open" if holder else f"it was written {age(idle_s)} ago"
        raise CheckFailed(f"a model is on its way into {path.parent.parent}: {path.name}, {since}", do="wait for it")


def _is_ours(store: Path, link: Link) -> bool:
    """Whether the blob is still the file that qwenops placed: a link made to it elsewhere moves its ctime alone."""
    status = status_of(_blob(store, link))
    then = link.stamp
    return status is not None and (status.st_ino, status.st_size, status.st_mtime_ns) == (
        then.inode,
        then.size,
        then.mtime_ns,
    )


def _blob(store: Path, link: Link) -> Path:
    return store / "blobs" / f"sha256-{link.sha256}"


def _link_waste(store: Path, link: Link) -> Waste:
    path = _blob(store, link)
    why = {"linked": "a link to", "reflinked": "a reflink of", "copied": "a copy of"}.get(link.how, "from")
    why = f"no model names it: {why} {link.source}"
    shared = link.how == "reflinked" and link.source.exists()
    return Waste("link", path, why, (path,), partial(_take_link, store, link), shared=shared)


def _half_written(store: Path) -> Iterator[Path]:
    """Files of registrations that were killed: none of ours is running while we hold the store."""
    for folder in (store / "blobs", store / "manifests"):
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            status = status_of(path)
            ours = path.name.startswith(OURS) or _HALF_COPY.fullmatch(path.name)
            if ours and status and time.time() - status.st_mtime > GRACE_S:
                yield path


def _half_waste(store: Path, path: Path) -> Waste:
    why = "a registration was stopped while it wrote this"
    return Waste("half-written", path, why, (path,), partial(_holding, store, partial(_take_half, path)))


def _take_half(path: Path) -> str:
    from qwenops.machine.open_files import holder_of

    if holder := holder_of(path.name):
        return f"{holder} has it open"
    return unlink_all([path])


def _take_link(store: Path, link: Link) -> str:
    return _holding(store, partial(_take_unneeded, store, link))


def _holding(store: Path, take: Callable[[], str]) -> str:
    """Do it while no other qwenops may change the store; an error is why the thing stays."""
    try:
        with store_lock(store, wait=False):
            return take()
    except QwenopsError as error:
        return error.message
    except OSError as error:
        return f"{error.filename}: {error.strerror or error}"


def _take_unneeded(store: Path, link: Link) -> str:
    """Look at everything again, move the blob aside, look at the manifests again, and only then remove it."""
    from qwenops.machine.open_files import holder_of

    path = _blob(store, link)
    if link.sha256 in _needed(store):
        return "a model names it by now"
    if not _is_ours(store, link):
        return "it is not the file any more that qwenops placed"
    if holder := holder_of(path.name):
        return f"{holder} has it open"
    aside = path.with_name(f"{path.name}.qwenops-{secrets.token_hex(4)}")
    path.rename(aside)
    try:
        back = link.sha256 in referenced(store)
    except BaseException:
        aside.replace(path)
        raise
    if back:
        aside.replace(path)  # what the server may have brought anew meanwhile has the same name, so the same bytes
        return "a model names it by now"
    aside.unlink()
    sync_folder(path.parent)
    ledger.forget_link(store, link.sha256)
    return ""
