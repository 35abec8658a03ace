"""Registration by the store: place the weights, write the small blobs, then the manifest, and see it arrive.

The order is Ollama's own: blobs first and durable, the manifest last by one rename. Whatever fails, and Ctrl-C at any
moment, takes back everything that was done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qwenops.errors import CheckFailed
from qwenops.ollama import ledger
from qwenops.ollama.blobs import Undo, make_folders, store_lock, sync_folder, write_atomically, write_blob
from qwenops.ollama.contents import Blob, Bundle, Contents, bundle
from qwenops.ollama.digest import Digested, Stamp, digest_file, remembered
from qwenops.ollama.judge import (
    Before,
    clear_disk_errors,
    judge_rights,
    judge_room,
    nearest,
    refuse_foreign,
    unreadable,
    what_is_there,
)
from qwenops.ollama.link import Owner, can_reflink, owner_for, place
from qwenops.ollama.manifest import same_model
from qwenops.ollama.remove import remove_unused
from qwenops.ollama.rights import may_read, reader_named
from qwenops.ollama.types import How, Progress, Registered
from qwenops.ollama.watch import blob_is_right
from qwenops.runtime.client import Client
from qwenops.runtime.names import Name, parse_name
from qwenops.runtime.store import blob_path, list_manifests, manifest_digest
from qwenops.runtime.types import Runtime, Store
from qwenops.units import human

_SEEN_WITHIN_S = 5.0
_RANK: dict[str, int] = {"linked": 0, "reflinked": 1, "copied": 2}


class NotTheServersStore(CheckFailed):
    """The manifest was written and the server did not show it: the folder is someone else's. All was taken back."""


def register(
    contents: Contents,
    name: Name,
    runtime: Runtime,
    store: Store,
    *,
    copy: bool,
    replace: bool,
    dry_run: bool,
    progress: Progress,
) -> Registered:
    """Link a model into a store that we may write. See qwenops.ollama.register for what it raises."""
    judge_rights(contents, runtime, store, copy=copy)
    judge_room(contents, store, copy=copy)
    if dry_run:
        return _foretold(contents, name, store, replace=replace, copy=copy)
    digested = [digest_file(path, progress=progress) for _, path in contents.files]
    made = bundle(contents, digested)
    with clear_disk_errors(store, contents):
        owner = owner_for(nearest(store.path))
        with Undo() as undo:
            make_folders(store.path / "blobs", undo, owner)
            make_folders(store.path / "manifests", undo, owner)
            with store_lock(store.path), Undo() as steps:
                return _register(made, name, _Work(runtime, store, steps, owner, copy, progress, name), replace=replace)


@dataclass(frozen=True)
class _Work:
    """What every step of one registration needs. `undo` takes back what was done so far."""

    runtime: Runtime
    store: Store
    undo: Undo
    owner: Owner | None
    copy: bool
    progress: Progress
    name: Name


def _register(made: Bundle, name: Name, work: _Work, *, replace: bool) -> Registered:
    store, runtime = work.store, work.runtime
    before = what_is_there(store, name)
    same = before.raw is not None and same_model(before.raw, made.manifest)
    if not same:
        refuse_foreign(before, store, replace=replace)
    placed = [_place(blob, work) for blob in made.blobs]
    small = [(digest, data) for digest, data in made.small if not _holds(store, digest, data)]
    for digest, data in small:
        write_blob(blob_path(store, digest), data, work.undo, work.owner)
    sync_folder(store.path / "blobs")
    raw = before.raw if same and before.raw else made.manifest
    if not same:
        _write_manifest(before, raw, work)
        _link_again(made, work)
    confirmed = not runtime.reachable or seen_by_server(runtime, before.name, manifest_digest(raw))
    if not confirmed:
        raise NotTheServersStore(
            f"{store.path} is not the store of the server at {runtime.url}: it did not show {before.name.short}",
            do="set OLLAMA_MODELS to the server's own folder, or add --via api",
        )
    for blob, how in zip(made.blobs, placed, strict=True):
        note_link(store, blob, how)
    ledger.record_model(store.path, before.name.short, manifest_digest(raw))
    if not same and before.manifest:
        remove_unused(store, before.manifest)
    changed = not same or any(placed) or bool(small)
    told = _told(made, placed, before.name, store, runtime, digest=manifest_digest(raw), changed=changed)
    return dataclasses.replace(told, notes=(*told.notes, *_links_that_stay(made, placed, work)))


# The writing


def _place(blob: Blob, work: _Work) -> How | None:
    """Bring one large blob into the store; None when a right one is there."""
    target = blob_path(work.store, blob.row.digest)
    existed = target.exists()
    if existed and not _becomes_a_copy(blob, target, work):
        if blob_is_right(work.store, blob.row.digest, source=blob.found, progress=work.progress):
            return None
        target.unlink()
    how, _ = place(blob.found, target, copy=work.copy, owner=work.owner, progress=work.progress)
    if not existed:
        # A blob that others may use is only ever made better: what took its place is right and stays.
        work.undo.on_failure(target.unlink)
    reader = reader_named(work.runtime.user, work.store.path) if how == "linked" else None
    if reader and not may_read(target, reader):
        raise unreadable(target, blob.found.path, reader, work.store)
    # Noted before the manifest: where this process is killed in between, `gc` knows whose blob that is.
    note_link(work.store, blob, None if how == "present" else how)
    return None if how == "present" else how


def _becomes_a_copy(blob: Blob, target: Path, work: _Work) -> bool:
    """Whether a link that is there makes way for the copy that was asked for: not under another model that uses it.

    Where the server's user cannot read what was linked, a copy helps that model too.
    """
    if not work.copy or not os.path.samefile(target, blob.found.path):
        return False
    reader = reader_named(work.runtime.user, work.store.path)
    if reader and not may_read(target, reader):
        return True
    return not _users(work.store, blob.row.digest, but=work.name)


def _users(store: Store, digest: str, *, but: Name) -> list[str]:
    """The names of the other models that use a blob."""
    manifests = list_manifests(store).manifests
    return [m.name.short for m in manifests if m.name.folded != but.folded and digest in {b.digest for b in m.blobs}]


def _write_manifest(before: Before, raw: bytes, work: _Work) -> None:
    root = work.store.path / "manifests"
    path = root / before.name.relative_path
    for attempt in (1, 2):
        make_folders(path.parent, work.undo, work.owner)
        try:
            # Not beside the manifest: the server lists that folder, and one that vanishes there fails its listing.
            write_atomically(path, raw, work.owner, temporary_in=root)
            break
        except FileNotFoundError:  # the server pruned the folder while it was empty
            if attempt == 2:
                raise
    old, owner = before.raw, work.owner
    if old is None:
        work.undo.on_failure(path.unlink)
    else:
        work.undo.on_failure(lambda: write_atomically(path, old, owner, temporary_in=root))


def _link_again(made: Bundle, work: _Work) -> None:
    """A server that starts prunes blobs that no manifest named yet and that look old, as a link does."""
    for blob in made.blobs:
        if not blob_path(work.store, blob.row.digest).exists():
            _place(blob, work)
    for digest, data in made.small:
        write_blob(blob_path(work.store, digest), data, work.undo, work.owner)


def _holds(store: Store, digest: str, data: bytes) -> bool:
    with contextlib.suppress(OSError):
        return blob_path(store, digest).read_bytes() == data
    return False


def seen_by_server(runtime: Runtime, name: Name, digest: str) -> bool:
    """Whether the running server lists the model with this digest, within a few seconds."""
    deadline = time.monotonic() + _SEEN_WITHIN_S
    while True:
        tags = Client(runtime.url).tags()
        if any(parse_name(t.name).folded == name.folded and t.digest == digest for t in tags):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.25)


def note_link(store: Store, blob: Blob, how: How | None) -> None:
    """Write a placed blob into the ledger; one that was there keeps its entry, or gets one if it is the same file."""
    stamp = Stamp.of(blob_path(store, blob.row.digest).stat())
    if how is None:
        if stamp.inode != blob.found.stamp.inode:
            return
        how = "linked"
    ledger.record_link(store.path, ledger.Link(blob.found.sha256, how, blob.found.path, stamp))


# What is said afterwards


def _told(
    made: Bundle,
    placed: Sequence[How | None],
    name: Name,
    store: Store,
    runtime: Runtime,
    *,
    digest: str,
    changed: bool,
) -> Registered:
    hows = [how for how in placed if how]
    sizes = list(zip(placed, (blob.row.size for blob in made.blobs), strict=True))
    notes = []
    if not runtime.reachable:
        notes.append(f"no server answers at {runtime.url}: the model will be there once Ollama runs on {store.path}")
    if changed and len(hows) < len(placed):
        notes.append(f"{len(placed) - len(hows)} of {len(placed)} files were in the store already")
    copied = sum(size for how, size in sizes if how == "copied")
    if copied:
        notes.append(f"{human(copied)} copied: the store cannot share these files with where they are")
    return Registered(
        name=name.short,
        how=max(hows, key=_RANK.__getitem__, default="linked"),
        bytes_copied=copied,
        bytes_linked=sum(size for how, size in sizes if how in ("linked", "reflinked")),
        manifest=store.path / "manifests" / name.relative_path,
        changed=changed,
        undo=f"qwenops remove {name.short}",
        confirmed=runtime.reachable,
        digest=digest,
        notes=tuple(notes),
    )


def _links_that_stay(made: Bundle, placed: Sequence[How | None], work: _Work) -> list[str]:
    """A note for each file that was to be copied and is in the store by a link."""
    notes = []
    for blob, how in zip(made.blobs, placed, strict=True):
        if not work.copy or how is not None:
            continue
        link = ledger.link_of(work.store.path, blob.found.sha256)
        if link and link.how == "linked":
            users = _users(work.store, blob.row.digest, but=work.name)
            used = f", and {', '.join(users)} use{'s' * (len(users) == 1)} it" if users else ""
            notes.append(f"{blob.found.path.name} was not copied: the store has it by a link already{used}")
    return notes


def _foretold(contents: Contents, name: Name, store: Store, *, replace: bool, copy: bool) -> Registered:
    """What a registration would do, from what is known without reading the weights."""
    before = what_is_there(store, name)
    digested = [_known(path) for _, path in contents.files]
    known = [found for found in digested if found]
    made = bundle(contents, known) if len(known) == len(digested) else None
    same = made is not None and before.raw is not None and same_model(before.raw, made.manifest)
    notes = () if made else ("the files were not read: their digests are worked out when it is done",)
    if not same:
        refuse_foreign(before, store, replace=replace)
    blobs = nearest(store.path / "blobs")
    crossing = copy or any(path.stat().st_dev != blobs.stat().st_dev for _, path in contents.files)
    how: How = "copied" if crossing else "linked"
    if not crossing and all(can_reflink(path, blobs) for _, path in contents.files):
        how = "reflinked"
    total = 0 if same else contents.total_bytes
    return Registered(
        name=before.name.short,
        how=how,
        bytes_copied=total if crossing else 0,
        bytes_linked=0 if crossing else total,
        manifest=store.path / "manifests" / before.name.relative_path,
        changed=not same,
        undo=f"qwenops remove {before.name.short}",
        confirmed=False,
        digest=manifest_digest(made.manifest) if made else "",
        notes=notes,
    )


def _known(path: Path) -> Digested | None:
    stamp = Stamp.of(path.stat())
    sha256 = remembered(stamp)
    return Digested(path, sha256, stamp) if sha256 else None
