"""Take a model away, and with it the blobs that no other model uses."""

from __future__ import annotations

import contextlib

from qwenops import history
from qwenops.errors import NotAllowed, QwenopsError
from qwenops.ollama import ledger
from qwenops.ollama.blobs import store_lock
from qwenops.ollama.models import nobody_has, not_at
from qwenops.ollama.types import Removed
from qwenops.runtime.client import Client
from qwenops.runtime.names import Name, checked_name, parse_name
from qwenops.runtime.store import Manifest, blob_path, list_manifests, read_manifest
from qwenops.runtime.types import Runtime, Store


def remove_model(runtime: Runtime, name: str, *, dry_run: bool = False) -> Removed:
    """Take a model away: by the server where one runs, else from the store; blobs that others use stay.

    A linked original keeps its data: only the store's name for it goes. Raises BadInput when there is none,
    ServerDown when neither a server nor a store can be asked.
    """
    wanted = checked_name(name)
    store = runtime.store
    manifest = _manifest_or_none(store, wanted)
    if runtime.reachable:
        client = Client(runtime.url)
        tags = client.tags()
        tag = next((t for t in tags if parse_name(t.name).folded == wanted.folded), None)
        if tag is None:
            raise not_at(runtime, wanted, tags)
        freed, kept = _would_free(store, manifest) if store and manifest else (0, 0)
        if not dry_run:
            _unload(client, wanted)
            client.delete(tag.name)
            _forget(runtime, store, manifest, wanted)
        return Removed(parse_name(tag.name).short, "server", freed, kept)
    if store is None or manifest is None:
        raise nobody_has(runtime, wanted)
    freed, kept = _would_free(store, manifest)
    if not dry_run:
        _remove_from_store(store, manifest)
        _forget(runtime, store, manifest, wanted)
    return Removed(manifest.name.short, "store", freed, kept, (f"no server answers at {runtime.url}",))


def _unload(client: Client, name: Name) -> None:
    """Take the model out of memory first, as `ollama rm` does: once it is removed it cannot be named."""
    with contextlib.suppress(QwenopsError):
        for loaded in client.ps():
            if parse_name(loaded.name).folded == name.folded:
                client.unload(loaded.name)


def _remove_from_store(store: Store, manifest: Manifest) -> None:
    if not store.writable:
        raise NotAllowed(f"{store.path} cannot be written", do=("start Ollama", f"ollama rm {manifest.name.short}"))
    with store_lock(store.path):
        manifest.path.unlink()
        root = store.path / "manifests"
        for parent in manifest.path.parents:
            if parent == root:
                break
            with contextlib.suppress(OSError):  # not empty: others live there
                parent.rmdir()
        remove_unused(store, manifest)


def _would_free(store: Store, manifest: Manifest) -> tuple[int, int]:
    """(bytes that the disk gets back, blobs that other models still use)."""
    others = [m for m in list_manifests(store).manifests if m.path != manifest.path]
    used = {layer.digest for other in others for layer in other.blobs}
    freed = kept = 0
    for digest in {layer.digest for layer in manifest.blobs}:
        if digest in used:
            kept += 1
            continue
        with contextlib.suppress(OSError):
            status = blob_path(store, digest).stat()
            freed += status.st_size if status.st_nlink == 1 else 0
    return freed, kept


def _forget(runtime: Runtime, store: Store | None, manifest: Manifest | None, name: Name) -> None:
    ledger.forget_model(runtime.url, name.short)
    with history.open() as kept:
        for row in kept.recipes(name.short):
            if row.place in (runtime.url, str(store.path) if store else ""):
                kept.forget_recipe(row.name, row.place)
    if store is None:
        return
    ledger.forget_model(store.path, (manifest.name if manifest else name).short)
    for layer in manifest.blobs if manifest else ():
        with contextlib.suppress(OSError):
            if not blob_path(store, layer.digest).exists():
                ledger.forget_link(store.path, layer.digest.removeprefix("sha256:"))


def _manifest_or_none(store: Store | None, name: Name) -> Manifest | None:
    if store is not None:
        with contextlib.suppress(QwenopsError):
            return read_manifest(store, name)
    return None


def remove_unused(store: Store, manifest: Manifest) -> tuple[int, int]:
    """Drop the blobs of a manifest that is gone, unless another one uses them. Returns (bytes freed, blobs kept).

    A blob that is a hard link frees nothing: the user's file keeps the data.
    """
    used = {layer.digest for other in list_manifests(store).manifests for layer in other.blobs}
    freed = kept = 0
    for digest in {layer.digest for layer in manifest.blobs}:
        path = blob_path(store, digest)
        if digest in used:
            kept += 1
            continue
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            path.unlink()
            freed += status.st_size if status.st_nlink == 1 else 0
        ledger.forget_link(store.path, digest.removeprefix("sha256:"))
    return freed, kept
