"""A registered model as a lock file: digests, where the hub has each file, its Modelfile and its plan."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenops.errors import BadInput, PartMissing
from qwenops.result import Result
from qwenops.runtime.store import (
    ADAPTER,
    DRAFT,
    LICENSE,
    MESSAGES,
    MODEL,
    PROJECTOR,
    SYSTEM,
    TEMPLATE,
    Layer,
    Manifest,
    read_config,
    read_manifest,
    read_params,
    read_text,
)
from qwenops.runtime.types import Store
from qwenops.setup.lockfile import Kind, Lock, LockedFile, Origin, read_lock, safe_file_name

if TYPE_CHECKING:
    from qwenops.setup.recipe import Recipe

_KINDS: dict[str, Kind] = {MODEL: "model", PROJECTOR: "projector", ADAPTER: "adapter", DRAFT: "draft"}
_WORD: dict[Kind, str] = {"model": "model", "projector": "model", "adapter": "adapter", "draft": "draft"}


def export_result(name: str, output: Path | None) -> Result:
    """Write a model's lock file ("qwenops.export/1"); an existing file of another kind is not overwritten.

    Raises BadInput for a model of several files of weights, PartMissing where its store is out of reach.
    """
    from qwenops.machine.detect import detect
    from qwenops.runtime.discover import discover
    from qwenops.runtime.names import checked_name
    from qwenops.setup.modelfiles import write_whole
    from qwenops.setup.recipe import known_recipes

    wanted = checked_name(name)
    runtime = discover(probe_devices=False)
    if runtime.store is None:
        raise PartMissing(
            f"the store of the server at {runtime.url} is not in reach from here, and only it says what the files are",
            do="run qwenops export on the server's own machine",
        )
    manifest = read_manifest(runtime.store, wanted)
    short = manifest.name.short
    recipe = known_recipes(runtime).get(short)
    files = _files(runtime.store, manifest)
    lock = Lock(
        name=short,
        task=recipe.task if recipe else "chat",
        files=files,
        modelfile=_modelfile(runtime.store, manifest, files),
        plan=_plan(recipe) if recipe else {},
        made_under={
            "ollama": runtime.version,
            "llama_server": runtime.llama_server_build,
            "devices": [d.description for d in detect().devices],
        },
    )
    path = output or Path(f"{short.removesuffix(':latest').replace('/', '-').replace(':', '-')}.lock.json")
    if path.is_file():
        _must_be_lock(path)
    write_whole(path, lock.as_text())
    data = {
        "name": short,
        "written": str(path),
        "files": [
            {
                "kind": f.kind,
                "name": f.name,
                "sha256": f.sha256,
                "size_bytes": f.size_bytes,
                "origin": f.origin.reference if f.origin else None,
            }
            for f in files
        ],
    }
    own = [f.name for f in files if f.origin is None]
    notes = (
        (f"{', '.join(own)}: of no repository that is known here; the other machine needs the file (--from DIR)",)
        if own
        else ()
    )
    return Result("qwenops.export/1", data, notes=notes)


def _plan(recipe: Recipe) -> dict[str, Any]:
    """What was chosen, without the places of this machine."""
    choice = {k: v for k, v in recipe.choice.items() if k not in ("file", "projector")}
    return {"choice": choice, "predicted_bytes": recipe.predicted_bytes}


def _must_be_lock(path: Path) -> None:
    try:
        read_lock(path)
    except BadInput:
        raise BadInput(f"{path} is there and is no lock file", do="name another with -o") from None


def _files(store: Store, manifest: Manifest) -> tuple[LockedFile, ...]:
    layers = [layer for layer in manifest.layers if layer.media_type in _KINDS]
    if sum(layer.media_type == MODEL for layer in layers) != 1:
        raise BadInput(f"{manifest.name.short} has no weights of its own that could be named", do="qwenops list")
    found: list[LockedFile] = []
    for layer in layers:
        sha256 = layer.digest.removeprefix("sha256:")
        kind, origin = _KINDS[layer.media_type], _origin(sha256)
        name = safe_file_name(_own_name(store, layer, origin), f"{kind}-{sha256[:12]}.gguf")
        if name in {f.name for f in found}:
            name = f"{kind}-{sha256[:12]}.gguf"
        found.append(LockedFile(kind, name, sha256, layer.size_bytes, origin))
    return tuple(found)


def _own_name(store: Store, layer: Layer, origin: Origin | None) -> str:
    from qwenops.ollama.ledger import link_of

    link = link_of(store.path, layer.digest.removeprefix("sha256:"))
    return Path(origin.file).name if origin else link.source.name if link else ""


def _origin(sha256: str) -> Origin | None:
    """Where the hub has a file, as its library's cache says: repository, commit and path of a file of this digest."""
    from qwenops.model.hub_cache import cache_folder

    for blob in sorted(cache_folder().glob(f"models--*/blobs/{sha256}")):
        repository = blob.parents[1]
        owner, _, name = repository.name.removeprefix("models--").partition("--")
        for path in sorted(repository.glob("snapshots/*/**/*.gguf")):
            if path.exists() and path.samefile(blob):
                commit, *parts = path.relative_to(repository / "snapshots").parts
                return Origin(f"{owner}/{name}", commit, "/".join(parts))
    return None


def _modelfile(store: Store, manifest: Manifest, files: tuple[LockedFile, ...]) -> str:
    """What the model says, word for word, with its files by name. Raises BadInput for what no Modelfile can say."""
    from qwenops.modelfile.grammar import write
    from qwenops.modelfile.types import Command, Modelfile

    config = read_config(store, manifest)
    commands = [Command(_WORD[f.kind], f.name) for f in files]
    for media_type, word in ((TEMPLATE, "template"), (SYSTEM, "system")):
        commands += [Command(word, read_text(store, layer)) for layer in manifest.of(media_type)[-1:]]
    commands += [Command(word, str(config[word])) for word in ("renderer", "parser", "requires") if config.get(word)]
    commands += [Command(key, text) for key, text in _parameters(read_params(store, manifest))]
    commands += [Command("license", read_text(store, layer)) for layer in manifest.of(LICENSE)]
    for layer in manifest.of(MESSAGES)[-1:]:
        turns = json.loads(read_text(store, layer))
        commands += [Command("message", f"{turn['role']}: {turn['content']}") for turn in turns]
    return write(Modelfile(tuple(commands)))


def _parameters(params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in sorted(params.items()):
        for one in value if isinstance(value, list) else [value]:
            yield key, str(one).lower() if isinstance(one, bool) else str(one)
