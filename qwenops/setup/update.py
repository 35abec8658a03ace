"""Plan models again, from what they were asked for: for a new card, a new runtime, new files, another task."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from qwenops.errors import BadInput, QwenopsError
from qwenops.ollama.types import Progress, silent
from qwenops.result import Result
from qwenops.runtime.names import checked_name
from qwenops.runtime.types import Runtime
from qwenops.setup.modelfiles import kept_modelfile
from qwenops.setup.recipe import Recipe, as_given, keep, known_recipes, place_of, stale

COMPARED: Final = ("quant", "num_ctx", "kv_type", "ubatch", "images", "picture_tokens", "gpu_layers", "num_gpu")
"""What of a choice makes two plans different ones, in the order in which people read it."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class UpdateOptions:
    """What was asked of `update` beside names: another task, nothing but a look, no network, no load."""

    task: str | None = None
    offline: bool = False
    load: bool = True


@dataclass(frozen=True)
class Outlook:
    """What an update of one model would do. `fault` is why it cannot."""

    name: str
    recipe: Recipe
    made_by_us: bool
    reasons: tuple[str, ...] = ()
    changes: tuple[Mapping[str, Any], ...] = ()
    download_bytes: int = 0
    words_change: bool = False
    fault: str = ""
    do: tuple[str, ...] = ()
    exit_code: int = 0

    @property
    def needed(self) -> bool:
        """Whether anything is to be done."""
        return not self.fault and bool(self.reasons or self.changes or self.download_bytes or self.words_change)

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.name,
            "made_by_qwenops": self.made_by_us,
            "stale": list(self.reasons),
            "changes": [dict(c) for c in self.changes],
            "download_bytes": self.download_bytes,
            "needed": self.needed,
            "fault": self.fault,
            "do": list(self.do),
        }


@dataclass(frozen=True)
class Updates:
    """The outlooks of all models that were named, ready to be carried out."""

    runtime: Runtime
    options: UpdateOptions
    outlooks: tuple[Outlook, ...]

    @property
    def needed(self) -> bool:
        """Whether any model is to be changed."""
        return any(o.needed for o in self.outlooks)

    def foretold(self) -> Result:
        """What would be done ("qwenops.update/1"); exit code 1 where a model cannot be planned again."""
        models = [{**o.as_data(), "done": None} for o in self.outlooks]
        return self._result(models, dry_run=True)

    def carry_out(self, *, say: Say = lambda _: None, progress: Progress = silent) -> Result:
        """Do it, model by model; one that fails leaves the others alone ("qwenops.update/1")."""
        models = []
        for outlook in self.outlooks:
            done = None
            if outlook.needed:
                say(f"updating {outlook.name}")
                done = _carried_out(outlook, self.runtime, self.options, say=say, progress=progress)
            models.append({**outlook.as_data(), "done": done})
        return self._result(models, dry_run=False)

    def _result(self, models: Sequence[Mapping[str, Any]], *, dry_run: bool) -> Result:
        codes = [o.exit_code for o in self.outlooks if o.fault]
        codes += [m["done"]["exit_code"] for m in models if m["done"]]
        data = {"models": list(models), "dry_run": dry_run}
        return Result("qwenops.update/1", data, exit_code=max(codes, default=0))


def look_ahead(names: Sequence[str], options: UpdateOptions, *, progress: Progress = silent) -> Updates:
    """Plan each model again without changing anything; all that qwenops planned where none is named.

    Raises BadInput where a named model is neither known nor given a task.
    """
    from qwenops.machine.detect import detect
    from qwenops.ollama.models import show_model
    from qwenops.runtime.discover import discover

    runtime = discover(probe_devices=False)
    machine, recipes = detect(), known_recipes(runtime)
    wanted = [checked_name(name).short for name in names] or sorted(recipes)
    if not wanted:
        raise BadInput("qwenops planned no model of this server yet", do="qwenops up qwen3-vl:8b --for ocr")
    outlooks = []
    for name in dict.fromkeys(wanted):
        recipe = recipes.get(name)
        if recipe is None or not recipe.asked:
            show_model(runtime, name, progress=progress)  # says so where there is no such model
            if options.task is None:
                raise BadInput(
                    f"how {name} was made is not known: qwenops did not plan it",
                    do=f"qwenops update {name} --for ocr     (plans it anew on its own files)",
                )
            recipe = Recipe(name, place_of(runtime), (f"ollama:{name}",), options.task)
            outlooks.append(_outlook(recipe, options, (), made_by_us=False))
            continue
        outlooks.append(_outlook(recipe, options, stale(recipe, machine, runtime), made_by_us=True))
    return Updates(runtime, options, tuple(outlooks))


def _outlook(recipe: Recipe, options: UpdateOptions, reasons: tuple[str, ...], *, made_by_us: bool) -> Outlook:
    outlook = Outlook(recipe.name, recipe, made_by_us, reasons)
    try:
        planned = _up(recipe, options, dry_run=True, replace=not made_by_us)
    except QwenopsError as error:
        return replace(outlook, fault=error.message, do=error.do, exit_code=error.exit_code)
    if "plan" not in planned.data:
        again = f"qwenops plan {' '.join(recipe.asked)} --for {options.task or recipe.task}"
        return replace(outlook, fault="nothing of it fits this machine now", do=(again,), exit_code=1)
    brought = planned.data["brought"]
    return replace(
        outlook,
        changes=tuple(_changes(recipe, planned.data, options)),
        download_bytes=int(brought["bytes"]) if brought else 0,
        words_change=_words(planned.data["modelfile"]["text"]) != _words(_kept_text(recipe.name)),
    )


def _changes(recipe: Recipe, planned: Mapping[str, Any], options: UpdateOptions) -> list[Mapping[str, Any]]:
    """Task, choice and memory, then and now, where they differ; all that is new where nothing was known."""
    choice, need = planned["plan"]["choice"], planned["plan"]["need"]
    now = need["total_device_bytes"] or need["host"]["total_bytes"]
    rows = [("task", recipe.task if recipe.choice else None, options.task or recipe.task)]
    # Without a device a load's own log counts layers otherwise than a plan does.
    compared = [key for key in COMPARED if key != "gpu_layers" or need["devices"]]
    rows += [(key, recipe.choice.get(key), choice.get(key)) for key in compared]
    changed: list[Mapping[str, Any]] = [
        {"what": what, "before": before, "after": after} for what, before, after in rows if before != after
    ]
    if changed:
        changed.append({"what": "memory_bytes", "before": recipe.predicted_bytes or None, "after": now})
    return changed


def _carried_out(
    outlook: Outlook, runtime: Runtime, options: UpdateOptions, *, say: Say, progress: Progress
) -> dict[str, Any]:
    before = _save_what_was(outlook.name, runtime)
    try:
        done = _up(
            outlook.recipe,
            options,
            dry_run=False,
            replace=not outlook.made_by_us,
            again=True,
            say=say,
            progress=progress,
        )
    except QwenopsError as error:
        return {"ok": False, "why": error.message, "undo": None, "exit_code": error.exit_code}
    ok = bool(done.data.get("ok", False))
    if not ok:
        why = f"the load did not go as planned; {_put_back(outlook.name, before)}"
        keep(outlook.recipe)
        return {"ok": False, "why": why, "undo": None, "exit_code": done.exit_code or 1}
    undo = undo_command(outlook.name, before) if before else None
    return {"ok": True, "why": "", "undo": undo, "exit_code": done.exit_code}


def _up(
    recipe: Recipe,
    options: UpdateOptions,
    *,
    dry_run: bool,
    replace: bool,
    again: bool = False,
    say: Say = lambda _: None,
    progress: Progress = silent,
) -> Result:
    from qwenops.setup.up import UpOptions, up_result

    asked = UpOptions(
        name=recipe.name,
        task=options.task or recipe.task,
        mode=recipe.mode,
        system=recipe.system,
        template=Path(recipe.template) if recipe.template else None,
        replace=replace,
        load=options.load,
        again=again,
        dry_run=dry_run,
        pins={**recipe.pins, "offline": options.offline},
    )
    mmproj = as_given(recipe.mmproj) if recipe.mmproj else None
    return up_result(tuple(as_given(one) for one in recipe.asked), mmproj, asked, say=say, progress=progress)


def _kept_text(name: str) -> str:
    path = kept_modelfile(name)
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _words(text: str) -> list[tuple[str, str]]:
    """What a Modelfile says beside the files that it is made from; nothing where it cannot be read."""
    from qwenops.modelfile.grammar import parse

    try:
        return [(c.name, c.args) for c in parse(text).commands if c.name != "model"]
    except QwenopsError:
        return []


def _save_what_was(name: str, runtime: Runtime) -> Path | None:
    """Keep the Modelfile in force, as the server says it; where it lies, or None where nobody said it."""
    from qwenops.runtime.client import Client
    from qwenops.setup.modelfiles import write_whole

    if not runtime.reachable:
        return None
    try:
        text = str(Client(runtime.url).show(name).get("modelfile") or "")
    except QwenopsError:
        return None
    if not text:
        return None
    before = kept_modelfile(name).with_suffix(".before.Modelfile")
    write_whole(before, _with_sources(text, name, runtime))
    return before


def _with_sources(text: str, name: str, runtime: Runtime) -> str:
    """The Modelfile with the files that were linked in place of their blobs, which may go with the old model."""
    from qwenops.ollama.ledger import link_of
    from qwenops.runtime.store import blob_path, read_manifest

    store = runtime.store
    try:
        manifest = read_manifest(store, name) if store else None
        for layer in manifest.layers if manifest else ():
            link = link_of(store.path, layer.digest.removeprefix("sha256:")) if store else None
            if store and link and link.source.exists():
                text = text.replace(str(blob_path(store, layer.digest)), str(link.source))
    except QwenopsError:
        pass
    return text


def _put_back(name: str, before: Path | None) -> str:
    """Make the model what it was before a load that did not go as planned; says how that went."""
    from qwenops.setup.registering import register_result

    if before is None:
        return "what it was before is not known"
    try:
        register_result(name, before, replace=True, lint=False)
    except (QwenopsError, OSError) as error:
        return f"it could not be put back ({error}): {undo_command(name, before)}"
    return "it is what it was before again"


def undo_command(name: str, before: Path) -> str:
    """What to type to have the model as it was."""
    return f"qwenops register {name} -f {shlex.quote(str(before))} --replace --no-check"
