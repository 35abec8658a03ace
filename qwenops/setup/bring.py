"""Between a plan and its registration: the chosen variant is brought here, where it was planned from afar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenops.errors import CheckFailed, PartMissing
from qwenops.model.types import Model
from qwenops.ollama.types import Progress
from qwenops.plan.types import Judged, Plan
from qwenops.runtime.types import Runtime
from qwenops.units import human

if TYPE_CHECKING:
    from qwenops.model.hub_cache import Piece


def pieces_away(made: Plan, *, offline: bool) -> tuple[Piece, ...]:
    """The files of the chosen model that are on the hub, by one listing a repository; none where all of it is here."""
    chosen = made.chosen
    if chosen is None or not _is_away(chosen.choice.model) or (chosen.choice.model.remote or "").startswith("ollama:"):
        return ()
    from qwenops.model.download import pieces_of

    return pieces_of(chosen.choice.model, offline=offline)


def would_bring(pieces: Sequence[Piece]) -> dict[str, Any] | None:
    """What bring_chosen would fetch; None where everything is here."""
    if not pieces:
        return None
    from qwenops.model.download import missing_bytes
    from qwenops.model.hub_cache import cache_folder

    return {"bytes": missing_bytes(pieces), "fetched": False, "into": str(cache_folder())}


def foresee(
    made: Plan,
    pieces: Sequence[Piece],
    name: str,
    runtime: Runtime,
    *,
    via: str,
    replacing: bool,
    lies_in: Path | None = None,
) -> tuple[str, ...]:
    """What would stop the registration after a long download stops it before: raises what `register` would.

    `lies_in` is where the model's file will be, where that is not the hub's cache. Returns notes: where the store is on
    another disk, no link can be made and a copy will be.
    """
    from qwenops.model.download import missing_bytes
    from qwenops.model.hub_cache import cache_folder
    from qwenops.ollama.judge import free_bytes, nearest, refuse_foreign, what_is_there
    from qwenops.runtime.names import checked_name

    chosen, store = made.chosen, runtime.store
    if chosen is None or not missing_bytes(pieces):
        return ()
    model = chosen.choice.model
    if store is None or via == "api":
        return ()
    refuse_foreign(what_is_there(store, checked_name(name)), store, replace=replacing)
    if not store.writable:
        return (
            f"{store.path} cannot be written by you: after the download a sudo command for the link is shown. With "
            "--via pull Ollama fetches a model of its own library itself",
        )
    folder, variable = (lies_in, "QWENOPS_HOME") if lies_in else (cache_folder(), "HF_HOME")
    if nearest(folder).stat().st_dev == nearest(store.path / "blobs").stat().st_dev:
        return ()
    needed = model.file_bytes + (model.projector.file_bytes if model.projector else 0)
    if free_bytes(store) < needed:
        raise PartMissing(
            f"{store.path} is on another disk than {folder}, so a copy of {human(needed)} would be made there, "
            f"where {human(free_bytes(store))} are free",
            do=f"export {variable}={store.path.parent / 'huggingface'}     (on the store's disk a link costs nothing)",
        )
    return (
        f"{folder} is on another disk than {store.path}: a copy of {human(needed)} is made there; with {variable} on "
        "the store's disk there is none",
    )


def as_downloaded(made: Plan) -> Plan:
    """The plan with its chosen model's files under their own names, for a Modelfile that is only shown."""
    chosen = made.chosen
    if chosen is None or not _is_away(chosen.choice.model):
        return made
    model = chosen.choice.model
    eyes = model.projector
    if eyes is not None and eyes.remote is not None:
        eyes = replace(eyes, path=Path(eyes.path.name))
    shards = tuple(Path(path.name) for path in model.shards) if model.remote else model.shards
    return replace(made, chosen=_with_model(chosen, replace(model, shards=shards, projector=eyes)))


def bring_chosen(
    made: Plan,
    pieces: Sequence[Piece],
    *,
    name: str,
    offline: bool,
    say: Callable[[str], None],
    progress: Progress,
) -> tuple[Plan, dict[str, Any] | None]:
    """The plan with its chosen model here, and what was fetched; nothing of the other variants is.

    The digests that were made while the files arrived are noted, so that registering does not read them again; so is
    the name of the model that they came for. What was here before is read once and compared with what the hub has
    listed. Raises CheckFailed where it differs.
    """
    from qwenops.model.download import bring, missing_bytes
    from qwenops.model.hub_cache import cache_folder
    from qwenops.ollama.digest import digest_file, remember
    from qwenops.setup.gc_models import note_download

    chosen = made.chosen
    if chosen is None or not pieces:
        return made, None
    model = chosen.choice.model
    wanted = missing_bytes(pieces)
    if wanted and not offline:
        say(f"downloading {human(wanted)}: {model.source}, into {cache_folder()}")
    brought = bring(model, pieces=pieces, offline=offline, progress=progress)
    for path, sha256 in brought.sha256.items():
        remember(Path(path).resolve(), sha256)
        note_download(model.source, path, sha256, name, fetched=True)
    for path, sha256 in brought.listed.items():
        note_download(model.source, path, sha256, name, fetched=False)
        found = digest_file(path, progress=progress)
        if found.sha256 != sha256:
            raise CheckFailed(
                f"{found.path} was here before and is not what the hub has: its digest is {found.sha256[:12]}…",
                do=(f"rm '{found.path}'", "then run the command again: it is downloaded anew"),
            )
    entry = {"bytes": brought.fetched_bytes, "fetched": brought.fetched_bytes > 0, "into": str(cache_folder())}
    return replace(made, chosen=_with_model(chosen, brought.model)), entry


def _is_away(model: Model) -> bool:
    return model.remote is not None or (model.projector is not None and model.projector.remote is not None)


def _with_model(judged: Judged, model: Model) -> Judged:
    return replace(judged, choice=replace(judged.choice, model=model))
