"""Register a model with Ollama without a second copy of its weights, or say exactly what stands in the way."""

from __future__ import annotations

from typing import Literal

from qwenops.errors import BadInput, CheckFailed, NotAllowed
from qwenops.ollama import api_register, place, store_register
from qwenops.ollama.contents import Contents, open_contents
from qwenops.ollama.types import Progress, Registered, Spec, silent
from qwenops.runtime.client import Client
from qwenops.runtime.names import checked_name
from qwenops.runtime.silence import server_down
from qwenops.runtime.store import list_manifests
from qwenops.runtime.types import Runtime, Store
from qwenops.units import human

Via = Literal["auto", "store", "api"]


def register(
    spec: Spec,
    name: str,
    runtime: Runtime,
    *,
    via: Via = "auto",
    copy: bool = False,
    replace: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Registered:
    """Make `name` in Ollama from a Spec.

    By the store (a link, nothing copied) where it is this server's and we may write it, else by the API. `copy` takes
    a copy with its own inode instead of a link; `replace` overwrites a model that qwenops did not make; `dry_run`
    changes nothing. Raises BadInput, NotAllowed, ServerDown, PartMissing (no room) or CheckFailed, each with nothing
    left behind.
    """
    full_name = checked_name(name)
    contents = open_contents(spec)
    way = choose_way(contents, runtime, via)
    if isinstance(way, str):
        return api_register.register(
            contents, full_name, runtime, replace=replace, dry_run=dry_run, progress=progress, why=way
        )
    store = way
    if not store.writable:
        return place.offer(contents, full_name, runtime, store, replace=replace, dry_run=dry_run, progress=progress)
    try:
        return store_register.register(
            contents, full_name, runtime, store, copy=copy, replace=replace, dry_run=dry_run, progress=progress
        )
    except store_register.NotTheServersStore as refusal:
        if via == "store":
            raise
        return api_register.register(
            contents, full_name, runtime, replace=replace, dry_run=dry_run, progress=progress, why=refusal.message
        )


def choose_way(contents: Contents, runtime: Runtime, via: Via) -> Store | str:
    """The store to link into, or the reason why the API must do it (a sentence; empty where it was asked for)."""
    if via == "api":
        return ""
    if contents.spec.base:
        if via == "store":
            raise BadInput(
                f"FROM {contents.spec.base} names a model, which only the server can resolve", do="--via api"
            )
        return "the server makes a model from one of its own without a copy"
    if contents.needs_rewrite:
        room = human(contents.total_bytes + contents.model_bytes)
        raise BadInput(
            f"{contents.needs_rewrite}, and a link cannot do that",
            do=(
                f"add --via api ({room} in the server's store while it works)",
                *(("or: qwenops up SHARD --join     (one file, made here)",) if len(contents.spec.shards) > 1 else ()),
            ),
        )
    store = runtime.store
    if store is None:
        if via == "store" or not runtime.reachable:
            raise _no_store(runtime)
        return f"the server's store is not on this machine ({runtime.place})"
    if runtime.reachable and (missing := _listed_elsewhere(store, runtime)):
        reason = f"{store.path} is not the store of the server at {runtime.url}: it lacks {missing}"
        if via == "store":
            raise CheckFailed(reason, do="set OLLAMA_MODELS to the server's own folder, or add --via api")
        return reason
    return store


def _listed_elsewhere(store: Store, runtime: Runtime) -> str:
    """A model that the server lists and this folder has not: proof that they are two stores."""
    try:
        here = {(m.name.folded, m.digest) for m in list_manifests(store).manifests}
    except NotAllowed:
        return ""
    tags = Client(runtime.url).tags()
    return next((t.name for t in tags if (checked_name(t.name).folded, t.digest) not in here), "")


def _no_store(runtime: Runtime) -> Exception:
    if not runtime.reachable:
        return server_down(runtime, "and no store was found")
    return CheckFailed(
        f"The store of the server at {runtime.url} is not on this machine ({runtime.place})", do="add --via api"
    )
