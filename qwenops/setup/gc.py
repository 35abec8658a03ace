"""What nobody needs any more, of everything that qwenops makes: found and shown first, then taken away."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from qwenops import paths
from qwenops.result import Result
from qwenops.setup.gc_models import StoreSeen, downloads_not_needed, modelfiles_not_needed, stores_in_reach
from qwenops.waste import Waste, age, files_below, freed_bytes, idle_seconds, unlink_all

_DAY_S = 86400.0


@dataclass(frozen=True)
class Found:
    """What may go, what is only offered, and the stores that were looked at."""

    things: tuple[Waste, ...]
    offered: tuple[Waste, ...]
    stores: tuple[StoreSeen, ...]

    @property
    def exit_code(self) -> int:
        """That of the first store that could not be looked at."""
        return next((store.exit_code for store in self.stores if store.exit_code), 0)


def find_waste(*, downloads: bool, older_than_days: int) -> Found:
    """Everything that may go. Changes nothing. `downloads` takes in whole files in the hub's cache."""
    from qwenops.model.leftovers import half_downloads
    from qwenops.setup.registering import find_runtime

    runtime = find_runtime()
    stores = stores_in_reach(runtime)
    unneeded = downloads_not_needed(stores, runtime)
    things = (
        *(thing for store in stores for thing in store.things),
        *(unneeded if downloads else ()),
        *half_downloads(),
        *modelfiles_not_needed(stores, runtime),
        *_caches(older_than_days * _DAY_S),
    )
    return Found(things, () if downloads else unneeded, stores)


def gc_result(found: Found, *, dry_run: bool) -> Result:
    """Take away what was found, or with `dry_run` say what would go ("qwenops.gc/1")."""
    foretold = freed_bytes(found.things)
    entries: list[dict[str, Any]] = []
    for thing, would_free in zip(found.things, foretold, strict=True):
        entry = {"kind": thing.kind, "path": str(thing.path), "why": thing.why, "bytes": thing.size_bytes}
        if dry_run:
            entries.append({**entry, "frees_bytes": would_free, "taken": False, "stayed": ""})
            continue
        # Asked anew, since what went before may have been another name of the same file.
        frees = freed_bytes([thing])[0]
        stayed = thing.take()
        entries.append({**entry, "frees_bytes": 0 if stayed else frees, "taken": not stayed, "stayed": stayed})
    data: dict[str, Any] = {
        "dry_run": dry_run,
        "things": entries,
        "frees_bytes": sum(entry["frees_bytes"] for entry in entries),
        "stores": [store.as_data() for store in found.stores],
        "offered": [{"path": str(thing.path), "why": thing.why, "bytes": thing.size_bytes} for thing in found.offered],
        "hub": _stays_in_the_hub(found),
    }
    notes = [f"{entry['path']} stays: {entry['stayed']}" for entry in entries if entry["stayed"]]
    return Result("qwenops.gc/1", data, notes=tuple(notes), exit_code=found.exit_code)


def _stays_in_the_hub(found: Found) -> dict[str, Any]:
    """What of the hub's cache stays although its store's link goes, with what to type to take it away."""
    from qwenops.model.hub_cache import cache_folder
    from qwenops.model.leftovers import hub_bytes, remove_command, repo_of

    goes = {thing.path.resolve() for thing in found.things if thing.kind == "download"}
    sources = [source for store in found.stores for source in store.sources if source.resolve() not in goes]
    sources += [thing.path for thing in found.offered]
    repos = sorted({repo for source in sources if source.exists() and (repo := repo_of(source.resolve()))})
    rows = [{"repo": repo, "bytes": hub_bytes(repo), "do": remove_command(repo)} for repo in repos]
    return {"folder": str(cache_folder()), "repos": rows}


def _caches(older_than_s: float) -> Iterator[Waste]:
    """Ghosts of killed runs, headers that nobody read for long, answers of a runtime that is gone, old scripts."""
    from qwenops.memory import ghost, probe_cache
    from qwenops.model import header_cache

    for folder in (Path(tempfile.gettempdir()), paths.cache_dir() / "calibration"):
        for left in ghost.left_behind(folder):
            files = files_below(left)
            take = partial(_take_folder, left, partial(_is_free, left, folder))
            yield Waste("ghost", left, f"left by a run {age(idle_seconds(left))} ago", files, take)
    for place in header_cache.unused(older_than_s):
        files = files_below(place)
        still = partial(header_cache.is_unused, place, older_than_s)
        why = f"a header or listing that was not read for {age(idle_seconds(place))}"
        yield Waste("header", place, why, files, partial(_take_folder, place, still))
    for server, answers in probe_cache.of_gone_servers().items():
        why = f"{len(answers)} answer{'s' * (len(answers) > 1)} of {server}, which is gone or was replaced"
        yield Waste("probe", probe_cache.folder(), why, answers, partial(unlink_all, answers))
    for kept in sorted((paths.cache_dir() / "quality").glob("*")):
        if idle_seconds(kept) > older_than_s:
            why = (
                f"what a reference said of a text, kept by bench quality and not added to for {age(idle_seconds(kept))}"
            )
            yield Waste("quality", kept, why, files_below(kept), partial(_take_folder, kept, partial(_is_unread, kept)))
    for answers_kept in sorted((paths.cache_dir() / "reading").glob("*.jsonl")):
        if idle_seconds(answers_kept) > older_than_s:
            files = (answers_kept, answers_kept.with_suffix(".lock"))
            why = (
                f"answers to pages, kept by bench ocr or vision and not added to for {age(idle_seconds(answers_kept))}"
            )
            yield Waste("reading", answers_kept, why, files, partial(_take_answers, answers_kept))
    for prepared in sorted((paths.cache_dir() / "register").glob("*")):
        files = files_below(prepared)
        idle_s = idle_seconds(prepared)
        if idle_s > older_than_s:
            why = f"a linking by sudo that was prepared {age(idle_s)} ago"
            yield Waste("script", prepared, why, files, partial(_take_folder, prepared, lambda: True))


def _is_unread(kept: Path) -> bool:
    """Whether no run of bench quality reads with this reference at this moment."""
    from qwenops.bench.quality.run import is_held

    return not is_held(kept)


def _take_answers(answers: Path) -> str:
    """Take a cell's answers away, unless a run asks it at this moment."""
    from filelock import FileLock, Timeout

    lock = answers.with_suffix(".lock")
    try:
        with FileLock(lock, timeout=0):
            return unlink_all((answers, lock))
    except (Timeout, OSError) as error:
        return "it is in use" if isinstance(error, Timeout) else f"{answers}: {error.strerror or error}"


def _is_free(left: Path, folder: Path) -> bool:
    """Whether a ghost is still one that nobody waits for, and no process has a file of it open."""
    from qwenops.machine.open_files import holder_of
    from qwenops.memory.ghost import left_behind

    return left in left_behind(folder) and not any(holder_of(file.name) for file in files_below(left))


def _take_folder(folder: Path, still: Callable[[], bool]) -> str:
    if not still():
        return "it is in use"
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{error.filename}: {error.strerror or error}"
    return ""
