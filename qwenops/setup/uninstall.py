"""Take back what qwenops made: its models, its Modelfiles, its history, caches and settings. Shown first."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from qwenops import history, paths
from qwenops.errors import BadInput, QwenopsError
from qwenops.history import MadeRow
from qwenops.result import Result
from qwenops.runtime.types import Runtime


def uninstall_result(*, yes: bool, keep_models: bool) -> Result:
    """Show what would go, or take it away ("qwenops.uninstall/1"). The user's own files always stay."""
    with history.open() as kept:
        models = [] if keep_models else list(kept.made("model"))
    folders = [
        ("history and Modelfiles", paths.data_dir()),
        ("caches", paths.cache_dir()),
        ("logs", paths.log_dir()),
        ("settings and templates", paths.config_dir()),
    ]
    files = [{"what": what, "path": str(p), "bytes": _bytes_below(p)} for what, p in folders if p.exists()]
    notes: list[str] = []
    if yes:
        notes += _remove_models(models)
        if not notes:
            for file in files:
                shutil.rmtree(file["path"])  # type: ignore[arg-type]
        else:
            notes.append("the history was kept, since it knows which models are left: run uninstall again")
    data: dict[str, Any] = {
        "done": yes,
        "models": [row.name for row in models],
        "files": files,
        "stays": [
            "your own model files: they were linked, never moved",
            "every model that qwenops did not make",
            "the program itself: pip uninstall qwenops",
        ],
    }
    return Result("qwenops.uninstall/1", data, notes=tuple(notes), exit_code=1 if notes else 0)


def _remove_models(made: list[MadeRow]) -> list[str]:
    """Take the models away, each from the store or server where it was made; returns what could not be done."""
    from qwenops.ollama.remove import remove_model

    failed = []
    for row in made:
        try:
            if not _store_is_gone(row.location):
                remove_model(_where(row.location), row.name)
                continue
        except BadInput:
            pass  # the store or server says that there is no such model any more
        except QwenopsError as error:
            failed.append(f"{row.name}: {error}")
            continue
        with history.open() as kept:
            kept.mark_removed(row.id)
    return failed


def _store_is_gone(location: str) -> bool:
    """Whether a model was made in a store whose folder was deleted since: nothing of it is left to take away."""
    return "://" not in location and not Path(location).exists()


def _where(location: str) -> Runtime:
    """The runtime that holds what was made at a server's address, or in a store's folder."""
    from qwenops.runtime.discover import discover
    from qwenops.runtime.store import open_store

    if "://" in location:
        return discover(location, probe_devices=False)
    runtime = discover(probe_devices=False)
    folder = Path(location)
    if runtime.store is not None and runtime.store.path.resolve() == folder.resolve():
        return runtime
    return Runtime(place="none", url=runtime.url, store=open_store(folder, "the history"))


def _bytes_below(folder: Path) -> int:
    return sum(f.lstat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink())
