"""The models of a server or store, with the health of their weights."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Any

from qwenops.errors import BadInput, NotAllowed, QwenopsError
from qwenops.model.nearby import like
from qwenops.ollama import ledger
from qwenops.ollama.types import Listed, Progress, Shown, silent
from qwenops.ollama.watch import health
from qwenops.runtime.client import Client, TaggedModel
from qwenops.runtime.names import Name, checked_name, parse_name
from qwenops.runtime.silence import server_down
from qwenops.runtime.store import (
    SYSTEM,
    TEMPLATE,
    Manifest,
    list_manifests,
    read_config,
    read_manifest,
    read_params,
    read_text,
)
from qwenops.runtime.types import Runtime, Store


def list_models(runtime: Runtime, *, progress: Progress = silent) -> tuple[Listed, ...]:
    """Every model, by name, with the health of its files where the store can be read.

    Raises ServerDown when neither a server nor a store is in reach.
    """
    store = runtime.store
    if store is not None:
        with contextlib.suppress(NotAllowed):
            manifests = list_manifests(store).manifests
            listed = [_from_store(store, runtime, manifest, progress) for manifest in manifests]
            return tuple(sorted(listed, key=lambda model: model.name))
    if not runtime.reachable:
        raise server_down(runtime, "and no store was found")
    return tuple(sorted((_from_tags(tag, runtime) for tag in Client(runtime.url).tags()), key=lambda model: model.name))


def show_model(runtime: Runtime, name: str, *, progress: Progress = silent) -> Shown:
    """One model in full. Raises BadInput when there is none of that name, ServerDown when nobody can be asked."""
    wanted = checked_name(name)
    store = runtime.store
    if store is not None:
        with contextlib.suppress(NotAllowed, BadInput):
            manifest = read_manifest(store, wanted)
            return _shown_from_store(store, runtime, manifest, progress)
    if not runtime.reachable:
        raise nobody_has(runtime, wanted)
    return _shown_from_server(runtime, wanted)


def nobody_has(runtime: Runtime, name: Name) -> QwenopsError:
    """The error for a model that was not found without a server: only a store that can be read says there is none."""
    store = runtime.store
    if store is not None:
        manifests = store.path / "manifests"
        if os.access(manifests if os.path.lexists(manifests) else store.path, os.R_OK | os.X_OK):
            names = [m.name.short for m in list_manifests(store).manifests]
            return BadInput(f"There is no model {name.short} in {store.path}", do=_instead(name, names))
    return server_down(runtime, f"so whether it has a model {name.short} is not known")


def not_at(runtime: Runtime, name: Name, tags: Iterable[TaggedModel]) -> BadInput:
    """The error for a name that the server does not list, with those of its list that are most like it."""
    return BadInput(f"There is no model {name.short} at {runtime.url}", do=_instead(name, (t.name for t in tags)))


def _instead(name: Name, names: Iterable[str]) -> tuple[str, ...]:
    near = (f"qwenops show {one}" for one in like(name.short, names))
    return (*near, "qwenops list")


def _from_store(store: Store, runtime: Runtime, manifest: Manifest, progress: Progress) -> Listed:
    config: dict[str, Any] = {}
    with contextlib.suppress(QwenopsError):
        config = read_config(store, manifest)
    return Listed(
        name=manifest.name.short,
        digest=manifest.digest,
        size_bytes=manifest.size_bytes,
        family=str(config.get("model_family") or ""),
        parameters=str(config.get("model_type") or ""),
        quant=str(config.get("file_type") or ""),
        made_by_qwenops=_is_ours(store, runtime, manifest.name, manifest.digest),
        files=health(store, manifest, user=runtime.user, progress=progress),
    )


def _is_ours(store: Store | None, runtime: Runtime, name: Name, digest: str) -> bool:
    places: list[Any] = [runtime.url, *([store.path] if store else [])]
    return any((made := ledger.made_here(place, name.short)) and made.digest == digest for place in places)


def _from_tags(tag: TaggedModel, runtime: Runtime) -> Listed:
    return Listed(
        name=tag.name,
        digest=tag.digest,
        size_bytes=tag.size_bytes,
        family=str(tag.details.get("family") or ""),
        parameters=str(tag.details.get("parameter_size") or ""),
        quant=str(tag.details.get("quantization_level") or ""),
        made_by_qwenops=_is_ours(None, runtime, parse_name(tag.name), tag.digest),
        files=(),
    )


def _shown_from_store(store: Store, runtime: Runtime, manifest: Manifest, progress: Progress) -> Shown:
    def text(kind: str) -> str | None:
        layers = manifest.of(kind)
        return read_text(store, layers[-1]) if layers else None

    capabilities: tuple[str, ...] = ()
    if runtime.reachable:
        with contextlib.suppress(QwenopsError):
            capabilities = tuple(Client(runtime.url).show(manifest.name.short).get("capabilities") or ())
    return Shown(
        listed=_from_store(store, runtime, manifest, progress),
        config=read_config(store, manifest),
        parameters=read_params(store, manifest),
        template=text(TEMPLATE),
        system=text(SYSTEM),
        capabilities=capabilities,
        source="store",
    )


def _shown_from_server(runtime: Runtime, name: Name) -> Shown:
    client = Client(runtime.url)
    tags = client.tags()
    tag = next((t for t in tags if parse_name(t.name).folded == name.folded), None)
    if tag is None:
        raise not_at(runtime, name, tags)
    answer = client.show(tag.name)
    config = {k: answer[k] for k in ("details", "renderer", "parser", "requires") if answer.get(k)}
    return Shown(
        listed=_from_tags(tag, runtime),
        config=config,
        parameters=_parameters(str(answer.get("parameters") or "")),
        template=answer.get("template") or None,
        system=answer.get("system") or None,
        capabilities=tuple(answer.get("capabilities") or ()),
        source="server",
        notes=("the store is not in reach from here: the files were not checked",),
    )


def _parameters(text: str) -> dict[str, Any]:
    """The "name    value" lines of /api/show; a repeated name becomes a list."""
    found: dict[str, Any] = {}
    for line in text.splitlines():
        name, _, value = line.strip().partition(" ")
        value = value.strip().strip('"')
        if name in found:
            earlier = found[name]
            found[name] = [*(earlier if isinstance(earlier, list) else [earlier]), value]
        elif name:
            found[name] = value
    return found
