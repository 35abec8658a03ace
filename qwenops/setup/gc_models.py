"""What belongs to models that are gone: their links in stores, their Modelfiles, the files downloaded for them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from qwenops import history, paths
from qwenops.errors import QwenopsError
from qwenops.history import MadeRow
from qwenops.runtime.types import Runtime
from qwenops.waste import Waste, status_of

DOWNLOAD: Final = "download"
"""The word under which the history keeps that a made file came from the hub."""
PLANS: Final = "plans"
"""The word under which it keeps which plans a Modelfile was made by."""


@dataclass(frozen=True)
class StoreSeen:
    """One store: what of it may go, every blob and name that its manifests have, or why it was left alone."""

    path: str
    things: tuple[Waste, ...] = ()
    named: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    sources: tuple[Path, ...] = ()
    why: str = ""
    do: tuple[str, ...] = ()
    exit_code: int = 0

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"path": self.path, "looked_at": not self.why, "why": self.why, "do": list(self.do)}


def stores_in_reach(runtime: Runtime) -> tuple[StoreSeen, ...]:
    """The server's store, and every other one that qwenops placed something in and that is still there."""
    from qwenops.ollama import ledger

    if runtime.place == "remote" or (runtime.silence is not None and not runtime.silence.here):
        return (
            StoreSeen(
                runtime.url,
                why=f"the store of {runtime.url} is on another machine: qwenops placed no links there, and what its "
                "models leave behind that server removes by itself when it starts",
                do=("run qwenops gc on that machine", "unset OLLAMA_HOST     (for the store of this one)"),
                exit_code=3,
            ),
        )
    hidden = (
        StoreSeen(
            runtime.url,
            why=f"the store of {runtime.url} ({runtime.place}) is not in reach from here",
            do=("run qwenops gc where that server runs",),
            exit_code=3,
        ),
    )
    folders = [*([runtime.store.path] if runtime.store else []), *ledger.stores()]
    seen = tuple(store for folder in dict.fromkeys(folders) if (store := _seen(folder)))
    return hidden + seen if runtime.reachable and runtime.store is None else seen


def _seen(folder: Path) -> StoreSeen | None:
    """One store as it is; None where there is none any more."""
    from qwenops.ollama.garbage import garbage_in
    from qwenops.ollama.ledger import link_of
    from qwenops.ollama.references import referenced
    from qwenops.runtime.store import list_manifests, open_store

    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        why = f"{folder} cannot be reached: {error.strerror}"
        return StoreSeen(str(folder), why=why, do=(f"sudo ls -ld {folder}",), exit_code=3)
    try:
        named = referenced(folder)
        models = frozenset(m.name.short for m in list_manifests(open_store(folder, "the ledger")).manifests)
        things = garbage_in(folder)
    except QwenopsError as error:
        return StoreSeen(str(folder), why=error.message, do=error.do, exit_code=error.exit_code)
    links = [link_of(folder, thing.path.name.removeprefix("sha256-")) for thing in things if thing.kind == "link"]
    sources = tuple(link.source for link in links if link)
    return StoreSeen(str(folder), things, named, models, sources)


def modelfiles_not_needed(stores: Sequence[StoreSeen], runtime: Runtime) -> tuple[Waste, ...]:
    """The Modelfiles that `up` kept for models that are gone. One of a model that may still be there stays."""
    folder = paths.data_dir() / "modelfiles"
    if not folder.is_dir():
        return ()
    with history.open() as kept:
        models, files = kept.made("model", removed=True), kept.made("file")
    gone = _plain(row.name for row in models) - _standing(models, stores, runtime)
    rows = {row.location: row for row in files}
    return tuple(
        Waste(
            "modelfile",
            path,
            f"{path.stem} was removed: its Modelfile{_and_plans(rows.get(str(path)))}",
            (path,),
            partial(_take_modelfile, path, rows.get(str(path))),
        )
        for path in sorted(folder.glob("*.Modelfile"))
        if path.stem in gone
    )


def downloads_not_needed(stores: Sequence[StoreSeen], runtime: Runtime) -> tuple[Waste, ...]:
    """The files in the hub's cache that qwenops brought, whose model was made and removed again.

    Only where every store could be read: what a model there needs is not known otherwise.
    """
    if any(store.why for store in stores):
        return ()
    from qwenops.model.leftovers import names_of

    with history.open() as kept:
        models, made = kept.made("model", removed=True), kept.made("file")
    standing = _standing(models, stores, runtime)
    known = _plain(row.name for row in models)
    named = frozenset(digest for store in stores for digest in store.named)
    found = []
    for row in made:
        brought = row.details.get(DOWNLOAD)
        path = Path(row.location)
        if not isinstance(brought, dict) or status_of(path) is None or str(brought.get("sha256")) in named:
            continue
        names = _plain(map(str, brought.get("for") or ()))
        if names and names <= known and not names & standing:
            why = f"{row.name}, brought for {', '.join(brought['for'])}, which is gone"
            files = (path, *(name for name in names_of(path) if not name.is_symlink()))
            found.append(
                Waste(DOWNLOAD, path, why, files, partial(_take_download, path, row, [Path(s.path) for s in stores]))
            )
    return tuple(found)


def note_modelfile(path: Path, model_key: str, plan: Mapping[str, Any]) -> None:
    """Keep a plan, and that the Modelfile of a model was made by it, so that both go when the model is gone."""
    with history.open() as kept:
        standing = next((row for row in kept.made("file") if row.location == str(path)), None)
        plans = [*_plans_of(standing), kept.record_plan(model_key, plan)]
        kept.record_made("file", path.name, str(path), {PLANS: plans})


def note_download(source: str, path: Path, sha256: str, name: str, *, fetched: bool) -> None:
    """Keep that a file was brought here for a model of this name, so that it can be offered once that is gone.

    One that was not `fetched` now but was here before is another tool's, unless an earlier note says that we did.
    """
    with history.open() as kept:
        location = str(path.resolve())
        before = next((row for row in kept.made("file") if row.location == location and row.name == source), None)
        if before is None and not fetched:
            return
        names = [*(before.details.get(DOWNLOAD, {}).get("for", ()) if before else ())]
        entry = {"sha256": sha256, "for": sorted({*names, name})}
        kept.record_made("file", source, location, {DOWNLOAD: entry})


def _standing(models: Iterable[MadeRow], stores: Sequence[StoreSeen], runtime: Runtime) -> frozenset[str]:
    """The models that are there, or that cannot be seen from here and were not removed as far as is known."""
    seen = {store.path: store for store in stores if not store.why}
    listed = {name for store in seen.values() for name in store.models}
    there = listed | _on_server(runtime, models)
    for row in models:
        if row.removed is None and row.location not in seen and row.location != runtime.url:
            there.add(row.name)
    return _plain(there)


def _on_server(runtime: Runtime, models: Iterable[MadeRow]) -> set[str]:
    """The models that the server lists; where it does not answer, those that were made at its address."""
    from qwenops.runtime.client import Client
    from qwenops.runtime.names import parse_name

    if runtime.reachable:
        with contextlib.suppress(QwenopsError):
            return {parse_name(tag.name).short for tag in Client(runtime.url).tags()}
    return {row.name for row in models if row.removed is None and row.location == runtime.url}


def _plain(names: Iterable[str]) -> frozenset[str]:
    """Names as they stand in a Modelfile's own name, without the tag that goes without saying."""
    return frozenset(re.sub(r"[/:]", "-", name.removesuffix(":latest")) for name in names)


def _plans_of(row: MadeRow | None) -> tuple[int, ...]:
    said = row.details.get(PLANS) if row else None
    return tuple(one for one in said if isinstance(one, int)) if isinstance(said, list) else ()


def _and_plans(row: MadeRow | None) -> str:
    count = len(_plans_of(row))
    return f" and {count} plan{'s' * (count > 1)} in the history" if count else ""


def _take_modelfile(path: Path, row: MadeRow | None) -> str:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        return f"{error.strerror or error}"
    with history.open() as kept:
        kept.forget_plans(_plans_of(row))
        for recipe in kept.recipes():  # `ollama rm` knows nothing of it
            if path.stem in _plain([recipe.name]):
                kept.forget_recipe(recipe.name, recipe.place)
    _forget(row)
    return ""


def _take_download(path: Path, row: MadeRow, stores: Sequence[Path]) -> str:
    """Look into every store once more, then take the file and its names away."""
    from qwenops.machine.open_files import holder_of
    from qwenops.model.leftovers import names_of, take_download
    from qwenops.ollama import ledger
    from qwenops.ollama.references import referenced

    try:
        if any(path.name in referenced(store) for store in (*stores, *ledger.stores()) if store.exists()):
            return "a model names it by now"
    except QwenopsError as error:
        return error.message
    for name in (path.name, *(name.name for name in names_of(path))):
        if holder := holder_of(name):
            return f"{holder} has it open"
    if stayed := take_download(path):
        return stayed
    _forget(row)
    return ""


def _forget(row: MadeRow | None) -> None:
    if row is not None:
        with history.open() as kept, contextlib.suppress(QwenopsError):
            kept.mark_removed(row.id)
