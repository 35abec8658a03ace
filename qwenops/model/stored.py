"""A model that Ollama has already: its blobs are read where they lie in the store, and nothing is copied or hashed.

A blob's name is its digest, so the manifest alone says what belongs together. Source: server/images.go (GetModel),
Ollama v0.32.14.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qwenops.errors import BadInput, CheckFailed, NotAllowed
from qwenops.model.projector import check_projector, read_projector
from qwenops.model.read import read_model
from qwenops.model.types import Model
from qwenops.runtime.names import checked_name, parse_name
from qwenops.runtime.store import (
    ADAPTER,
    DRAFT,
    MESSAGES,
    MODEL,
    PROJECTOR,
    SYSTEM,
    Manifest,
    blob_path,
    find_manifest,
    open_store,
    read_config,
    read_manifest,
    read_params,
)
from qwenops.runtime.types import Store


@dataclass(frozen=True)
class Inherited:
    """What a model that is made from another one by FROM takes over from it, unless it says otherwise."""

    params: Mapping[str, Any] = field(default_factory=dict)
    renderer: str | None = None
    parser: str | None = None
    texts: tuple[str, ...] = ()


def find_stored(text: str, store: Store) -> Model | None:
    """The model of this name in a store, its projector with it; None where the store has none or cannot be read.

    Raises BadInput for a model that has no GGUF, CheckFailed for one whose files are gone.
    """
    try:
        manifest = find_manifest(store, checked_name(text))
    except (NotAllowed, CheckFailed):
        return None
    return stored_model(store, manifest) if manifest else None


def is_stored(text: str, store: Store) -> bool:
    """Whether a store has a model of this name, by its manifest alone."""
    name = parse_name(text)
    try:
        return name.valid and find_manifest(store, name) is not None
    except (NotAllowed, CheckFailed):
        return False


def stored_model(store: Store, manifest: Manifest) -> Model | None:
    """The model of a manifest by its blobs; None where they may not be read from here. Raises as find_stored."""
    name, models, projectors = manifest.name.short, manifest.of(MODEL), manifest.of(PROJECTOR)
    if len(models) != 1:
        raise BadInput(
            f"ollama:{name} has no GGUF of one file: it runs in Ollama's cloud, or its weights are in another format",
            do="take another tag of it",
        )
    for layer in (*models, *projectors):
        path = blob_path(store, layer.digest)
        try:
            with path.open("rb"):
                size = path.stat().st_size
        except PermissionError:
            return None
        except OSError:
            size = -1
        if size != layer.size_bytes:
            raise CheckFailed(
                f"ollama:{name} is not whole in {store.path}: the blob {path.name[:19]}… is gone or cut off",
                do=(f"rm -f '{path}'     (Ollama takes it for whole while it is there)", f"ollama pull {name}"),
            )
    model = read_model(blob_path(store, models[0].digest), None)
    named = model.name if isinstance(model.header.metadata.get("general.name"), str) else manifest.name.model
    model = replace(model, name=named, stored=name)
    if not projectors or model.inline_vision:
        return model
    projector = read_projector(blob_path(store, projectors[0].digest))
    check_projector(model, projector)
    return replace(model, projector=replace(projector, stored=name))


def inherited(model: Model) -> Inherited:
    """What a new model takes over from a stored one. Raises as the store's readers do."""
    if not model.stored:
        return Inherited()
    store = open_store(_folder(model), "of the blob")
    manifest = read_manifest(store, model.stored)
    config = read_config(store, manifest)
    kinds = {SYSTEM: "the SYSTEM", MESSAGES: "the MESSAGEs", DRAFT: "the DRAFT", ADAPTER: "the ADAPTER"}
    return Inherited(
        params=read_params(store, manifest),
        renderer=config.get("renderer") or None,
        parser=config.get("parser") or None,
        texts=tuple(words for kind, words in kinds.items() if manifest.of(kind)),
    )


def _folder(model: Model) -> Path:
    return model.path.parent.parent
