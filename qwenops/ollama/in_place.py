"""A model of the store that becomes another one: its blobs are looked at, and their names are their digests."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from qwenops.errors import CheckFailed
from qwenops.model.types import Model
from qwenops.ollama import ledger
from qwenops.ollama.digest import Stamp, remember
from qwenops.ollama.types import Progress, silent
from qwenops.ollama.watch import health
from qwenops.runtime.store import open_store, read_manifest


def look_at_blobs(model: Model, *, progress: Progress = silent) -> None:
    """See that the blobs of a stored model are still what their names say, and note those names as their digests.

    Nothing is read but a file that was written to since it was linked. Raises CheckFailed where one is another now.
    """
    if not model.stored:
        return
    store = open_store(model.path.parent.parent, "of the blob")
    manifest = read_manifest(store, model.stored)
    for file in health(store, manifest, progress=progress):
        if file.state not in ("ok", "hidden"):
            raise CheckFailed(
                f"ollama:{model.stored} is not what it was: {file.why}",
                do=(f"qwenops show {model.stored}", f"ollama pull {model.stored}     (where it is from the registry)"),
            )
        if file.blob is not None:
            remember(file.blob, file.digest.removeprefix("sha256:"))


def touched_by_server(model: Model) -> None:
    """Note the state of a stored model's blobs anew after the server made another model of it.

    The server sets the time of every blob that it uses again (manifest/layer.go, NewLayerFromLayer), which is that of
    the linked file too: without this each would be read in full the next time its health is asked for. To be called
    at once after look_at_blobs and the registration.
    """
    if not model.stored:
        return
    store = open_store(model.path.parent.parent, "of the blob")
    for path in (*model.shards, *((model.projector.path,) if model.projector else ())):
        sha256 = path.name.removeprefix("sha256-")
        with contextlib.suppress(OSError):
            stamp = Stamp.of(path.stat())
            link = ledger.link_of(store.path, sha256)
            if link and (link.stamp.inode, link.stamp.size) == (stamp.inode, stamp.size):
                ledger.record_link(store.path, replace(link, stamp=stamp))
            remember(path, sha256)
