"""The model of a lock file on this machine: its files found or brought, its fit judged first, registered, loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenops.errors import BadInput, CheckFailed, PartMissing, ServerDown
from qwenops.machine.types import Machine
from qwenops.ollama.types import Progress, silent
from qwenops.plan.types import Choice, Judged
from qwenops.result import Result
from qwenops.runtime.types import Runtime
from qwenops.setup.lockfile import Lock, LockedFile, read_lock, with_paths
from qwenops.units import human

if TYPE_CHECKING:
    from qwenops.model.hub_cache import Piece
    from qwenops.model.types import Model

Say = Callable[[str], None]


@dataclass(frozen=True)
class ImportOptions:
    """What was asked of `import` beside the file. `folder` is looked through for files of the lock's digests."""

    name: str | None = None
    folder: Path | None = None
    replace: bool = False
    force: bool = False
    load: bool = True
    offline: bool = False
    dry_run: bool = False


def import_result(
    path: Path, options: ImportOptions, *, say: Say = lambda _: None, progress: Progress = silent
) -> Result:
    """Make the model that a lock file describes ("qwenops.import/1").

    Exit code 1 where it does not fit this machine (nothing is fetched then), or its load was not as predicted. Raises
    BadInput for a lock that cannot be used, CheckFailed for files that are not those of its digests, PartMissing where
    one is nowhere to be had.
    """
    from qwenops.machine.detect import detect
    from qwenops.ollama.judge import refuse_foreign, what_is_there
    from qwenops.runtime.discover import discover
    from qwenops.runtime.names import checked_name
    from qwenops.runtime.silence import server_down

    lock = read_lock(path)
    name = checked_name(options.name or lock.name).short
    runtime, machine = discover(probe_devices=True), detect()
    if options.load and not options.dry_run and not runtime.reachable:
        down = server_down(runtime)
        raise ServerDown(down.message, do=(*down.do, "or add --no-load to register into the store alone"))
    if runtime.store is not None:
        refuse_foreign(what_is_there(runtime.store, checked_name(name)), runtime.store, replace=options.replace)
    here = {f.name: found for f in lock.files if (found := _found(f, runtime, options.folder, progress))}
    away = [f for f in lock.files if f.name not in here]
    pieces = {f.name: _piece(f, offline=options.offline) for f in away}
    judged = _judged(lock, here, machine, runtime, offline=options.offline)
    data: dict[str, Any] = {
        "name": name,
        "dry_run": options.dry_run,
        "fits": judged.fits,
        "predicted_bytes": judged.need.total_device_bytes or judged.need.host.total_bytes,
        "short_bytes": judged.short_bytes,
        "tightest": judged.tightest,
        "found": {n: str(p) for n, p in here.items()},
        "download_bytes": sum(f.size_bytes for f in away),
        "here_instead": _instead(lock),
        "registered": None,
        "verified": None,
    }
    if options.dry_run or (judged.fits != "yes" and not options.force):
        return Result("qwenops.import/1", data, exit_code=0 if judged.fits == "yes" else 1)
    paths = {**here, **_brought(away, pieces, options, say, progress)}
    registered = _register(lock, name, paths, runtime, replacing=options.replace, say=say, progress=progress)
    data["registered"] = registered
    _keep(lock, name, judged, machine, runtime)
    notes: tuple[str, ...] = tuple(registered.pop("notes", ()))
    ok = True
    if options.load:
        from qwenops.ollama.verify import load_and_verify

        say(f"loading {name}")
        model = _model(lock, paths)
        verified = load_and_verify(name, runtime, judged.need, model=model, progress=progress)
        data["verified"], ok, notes = verified.as_data(), verified.ok, (*notes, *verified.notes)
    return Result("qwenops.import/1", data, notes=notes, exit_code=0 if ok else 1)


# Where the files are


def _found(file: LockedFile, runtime: Runtime, folder: Path | None, progress: Progress) -> Path | None:
    """A file of exactly this digest on this machine. What has the size and another digest is passed over."""
    from qwenops.ollama.digest import digest_file

    for path in _candidates(file, runtime, folder):
        try:
            if path.is_file() and path.stat().st_size == file.size_bytes:
                found = digest_file(path, progress=progress)
                if found.sha256 == file.sha256:
                    return found.path
        except (OSError, BadInput):
            continue
    return None


def _candidates(file: LockedFile, runtime: Runtime, folder: Path | None) -> Iterator[Path]:
    from qwenops.model.hub_cache import cache_folder

    if runtime.store is not None:
        yield runtime.store.path / "blobs" / f"sha256-{file.sha256}"
    yield from sorted(cache_folder().glob(f"models--*/blobs/{file.sha256}"))
    if folder is not None:
        if not folder.is_dir():
            raise BadInput(f"--from {folder} is not a folder", do="name the folder that holds the files")
        yield from sorted(folder.iterdir(), key=lambda path: path.name != file.name)


def _piece(file: LockedFile, *, offline: bool) -> Piece:
    """The file on the hub at the lock's commit, where the hub says that it is the lock's."""
    from qwenops.model import hub
    from qwenops.model.hub_cache import Piece

    if file.origin is None:
        raise PartMissing(
            f"{file.name} ({file.sha256[:12]}…, {human(file.size_bytes)}) is not on this machine, and the lock says no "
            "repository that has it",
            do="copy the file here and add --from FOLDER",
        )
    if offline or hub.hub_offline():
        raise PartMissing(f"{file.name} is not here, and the network is not to be used", do="without --offline")
    origin = file.origin
    reference = hub.HubReference(origin.repo, origin.commit, origin.file)
    listed = next((f for f in hub.list_files(reference, offline=False) if f.path == origin.file), None)
    if listed is None:
        raise PartMissing(f"{origin.reference} is not in the repository any more", do="add --from FOLDER")
    if listed.content != f"sha256 {file.sha256}":
        raise CheckFailed(
            f"{origin.reference} is another file on the hub than the lock's: {str(listed.content)[:19]}…, "
            f"not {file.sha256[:12]}…",
            do="the lock was altered, or HF_ENDPOINT is another hub than the one it was made from",
        )
    remote = hub.remote_file(reference, listed)
    return Piece(reference, origin.file, remote, file.sha256, file.kind == "projector", origin.commit)


def _brought(
    away: list[LockedFile], pieces: dict[str, Piece], options: ImportOptions, say: Say, progress: Progress
) -> dict[str, Path]:
    from qwenops.model.download import fetch
    from qwenops.model.hub_cache import linked
    from qwenops.ollama.digest import digest_file, remember

    if away:
        say(f"downloading {human(sum(f.size_bytes for f in away))}: {', '.join(f.name for f in away)}")
    paths = {}
    for file in away:
        piece = pieces[file.name]
        blob = fetch(piece, offline=options.offline, progress=progress)
        if blob.name == file.sha256:
            remember(blob, file.sha256)  # hashed while it arrived
        elif digest_file(blob, progress=progress).sha256 != file.sha256:
            raise CheckFailed(f"{piece.remote.shown} is not the lock's file", do="run the command again")
        paths[file.name] = linked(piece, offline=options.offline)
    return paths


# Whether it fits


def _judged(lock: Lock, here: dict[str, Path], machine: Machine, runtime: Runtime, *, offline: bool) -> Judged:
    """The load under the lock's own parameters and this server's settings, held against what is free here."""
    from qwenops.memory import ladder
    from qwenops.memory.reserve import devices_in_use, fit_reserve
    from qwenops.modelfile.grammar import parse
    from qwenops.modelfile.spec import spec_of
    from qwenops.plan.fit import judge
    from qwenops.plan.ground import ground
    from qwenops.setup.registered import RegisteredModel, load_settings

    model = _model(lock, here) if len(here) == len(lock.files) else _from_headers(lock, here, offline=offline)
    words = tuple(c for c in parse(lock.modelfile).commands if c.name not in ("adapter", "draft"))
    said = spec_of(replace(parse(lock.modelfile), commands=words), Path("/"))
    params = {k: list(v) if isinstance(v, tuple) else v for k, v in said.parameters.items()}
    settings = load_settings(RegisteredModel(lock.name, model, params), runtime)
    base = ground(machine, runtime)
    if settings.gpu_layers == "auto":
        settings = replace(settings, gpu_layers="all")  # whole on the device is what "fits" means
    devices = devices_in_use(model, settings, base.devices, base.host, base.environment)
    reserve = fit_reserve(model, settings, devices, base.environment)
    need = ladder.need(model, settings, devices, host=base.host, runtime=runtime, reserve_bytes=reserve)
    return judge(Choice(model, settings, images=0), need, host=base.host)


def _model(lock: Lock, paths: dict[str, Path]) -> Model:
    from qwenops.model.read import read_model

    model, projector = lock.only("model"), lock.only("projector")
    assert model is not None
    return read_model(paths[model.name], paths[projector.name] if projector else None)


def _from_headers(lock: Lock, here: dict[str, Path], *, offline: bool) -> Model:
    """The model from the headers alone: those of files that are not here are read on the hub."""
    from qwenops.model.read import read_model
    from qwenops.model.reference import read_references

    model, projector = lock.only("model"), lock.only("projector")
    assert model is not None
    eyes: Path | str | None = None
    if projector is not None:
        eyes = here.get(projector.name) or (projector.origin.reference if projector.origin else None)
    if model.name in here and (eyes is None or isinstance(eyes, Path)):
        return read_model(here[model.name], eyes)
    if model.origin is None:
        raise PartMissing(f"{model.name}: no repository has it, and {eyes} is to be read beside it", do="--from FOLDER")
    (found,) = read_references([model.origin.reference], eyes, offline=offline, most=1)
    return found if projector else replace(found, projector=None)


def _instead(lock: Lock) -> str | None:
    """The command that plans the same model for this machine."""
    model = lock.only("model")
    if model is None or model.origin is None:
        return None
    from qwenops.plan.profile import profiles

    task = lock.task if lock.task in profiles() else "chat"
    return f"qwenops up hf:{model.origin.repo} --for {task}"


# Making it


def _register(
    lock: Lock, name: str, paths: dict[str, Path], runtime: Runtime, *, replacing: bool, say: Say, progress: Progress
) -> dict[str, Any]:
    from qwenops.ollama.from_modelfile import spec_from
    from qwenops.ollama.register import register
    from qwenops.setup.registering import registered_entry

    say(f"registering {name}")
    text = with_paths(lock.modelfile, {n: p.absolute() for n, p in paths.items()})
    done = register(spec_from(text, Path.cwd()), name, runtime, replace=replacing, progress=progress)
    return {**registered_entry(done), "notes": list(done.notes)}


def _keep(lock: Lock, name: str, judged: Judged, machine: Machine, runtime: Runtime) -> None:
    """Note how it was made, so that `list` knows it and `update` can plan it again."""
    from qwenops.plan.profile import profiles
    from qwenops.setup.recipe import keep, recipe_of

    model, projector = lock.only("model"), lock.only("projector")
    assert model is not None
    asked = f"hf:{model.origin.repo}:{model.origin.file}" if model.origin else f"ollama:{name}"
    eyes = projector.origin if projector and model.origin else None
    task = lock.task if lock.task in profiles() else "chat"
    pins = {"ctx": judged.choice.settings.num_ctx}
    mmproj = f"hf:{eyes.repo}:{eyes.file}" if eyes else None
    keep(recipe_of(name, (asked,), mmproj, task, judged, machine, runtime, pins=pins))
