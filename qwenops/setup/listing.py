"""The models of a server as a person keeps them: what each was planned for, takes, and whether that still holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from qwenops.ollama.types import Listed, Progress, silent
from qwenops.result import Result
from qwenops.setup.recipe import Recipe, known_recipes, measured_bytes, stale
from qwenops.waste import status_of

_WRONG = frozenset({"changed", "missing", "unreadable"})


def list_result(progress: Progress = silent) -> Result:
    """Every model with its plan, its memory and the health of its files ("qwenops.list/2").

    Exit code 1 when a file is not what it says; a plan that is stale is said and no fault.
    """
    from qwenops.machine.detect import detect
    from qwenops.ollama.models import list_models
    from qwenops.setup.registering import find_runtime

    runtime = find_runtime()
    listed = list_models(runtime, progress=progress)
    machine, recipes = detect(), known_recipes(runtime)
    models = [
        {**m.as_data(), "plan": plan_entry(recipes[m.name], stale(recipes[m.name], machine, runtime))}
        if m.name in recipes
        else {**m.as_data(), "plan": None}
        for m in listed
    ]
    data = {"models": models, "disk_bytes": disk_bytes(listed), "now": datetime.now(timezone.utc).isoformat()}
    old = [str(m["name"]) for m in models if m["plan"] and m["plan"]["stale"]]
    notes = (f"plans are stale: qwenops update {' '.join(old)}",) if old else ()
    return Result("qwenops.list/2", data, notes=notes, exit_code=1 if any(m["state"] in _WRONG for m in models) else 0)


def show_result(name: str, progress: Progress = silent) -> Result:
    """One model in full, how it was made included ("qwenops.show/2"); exit code 1 when a file is not what it says."""
    from qwenops.machine.detect import detect
    from qwenops.ollama.models import show_model
    from qwenops.setup.registering import find_runtime

    runtime = find_runtime()
    shown = show_model(runtime, name, progress=progress)
    listed = shown.listed.as_data()
    recipe = known_recipes(runtime).get(shown.listed.name)
    data: Mapping[str, Any] = {
        **listed,
        "parameters_size": shown.listed.parameters,
        "parameters": dict(shown.parameters),
        "capabilities": list(shown.capabilities),
        "template": shown.template,
        "system": shown.system,
        "renderer": shown.config.get("renderer"),
        "parser": shown.config.get("parser"),
        "requires": shown.config.get("requires"),
        "read_from": shown.source,
        "plan": plan_entry(recipe, stale(recipe, detect(), runtime)) if recipe else None,
    }
    return Result("qwenops.show/2", data, notes=shown.notes, exit_code=1 if listed["state"] in _WRONG else 0)


def plan_entry(recipe: Recipe, reasons: Sequence[str]) -> dict[str, Any]:
    """A recipe as plain JSON values, with what a load took and what is not as it was."""
    return {
        "made": recipe.made.isoformat() if recipe.made else None,
        "asked": list(recipe.asked),
        "task": recipe.task,
        "pins": dict(recipe.pins),
        "choice": dict(recipe.choice),
        "ollama": recipe.ollama,
        "llama_server_build": recipe.llama_server_build,
        "devices": [dict(d) for d in recipe.devices],
        "predicted_bytes": recipe.predicted_bytes,
        "measured_bytes": measured_bytes(recipe),
        "stale": list(reasons),
    }


def disk_bytes(models: Iterable[Listed]) -> int | None:
    """What the weights of all models take on disk together, each file once, however many names it has.

    None where none of them can be seen.
    """
    blobs = {f.blob for m in models for f in m.files if f.blob}
    seen = {(s.st_dev, s.st_ino): s.st_size for blob in blobs if (s := status_of(blob.resolve()))}
    return sum(seen.values()) if seen else None
