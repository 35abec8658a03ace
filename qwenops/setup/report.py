"""What is known of models on this machine, joined for people: the history, the planner and the closed form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenops import __version__
from qwenops.errors import BadInput, PartMissing, QwenopsError
from qwenops.model.types import Model
from qwenops.result import Result
from qwenops.setup.given import Given, variants, where_it_is
from qwenops.setup.report_names import Names, by_model, read_names

if TYPE_CHECKING:
    from qwenops.history import History
    from qwenops.machine.types import Machine
    from qwenops.plan.profile import Profile
    from qwenops.plan.types import Plan
    from qwenops.runtime.types import Runtime

MOST_EXPLORED = 16
"""Models on one page: the file stays small and the choice can be overlooked."""
REFERENCES = ("hf:", "ollama:", "https://", "http://")
TO_STDOUT = Path("-")
_MARK = b'<meta name="generator" content="qwenops'
OnModel = Callable[[int, int], None]


def report_result(
    given: tuple[Given, ...],
    mmproj: Given | None = None,
    *,
    task: str = "chat",
    gpus: tuple[str, ...] = (),
    output: Path | None = None,
    force: bool = False,
    markdown: bool = False,
    offline: bool = False,
    on_model: OnModel = lambda done, of: None,
) -> Result:
    """The report of the given models, or of all that the history knows ("qwenops.report/1").

    `gpus` are the cards of the explorer, "all" every known one, none this machine. With `output` the page is written
    there ("-": it is shown in place of the text). Raises BadInput where that file is not a report of ours and `force`
    is not said, or its folder is not there.
    """
    from qwenops import history

    if output is not None and output != TO_STDOUT:
        check_output(output, force=force)
    with history.open() as kept:
        data, notes = _joined(kept, given, mmproj, task=task, gpus=gpus, offline=offline, on_model=on_model)
    data |= {"written": None, "shown_as": "markdown" if markdown else "text"}
    if output is not None:
        from qwenops.report.html.page import page

        text = page(data)
        if output == TO_STDOUT:
            data |= {"shown_as": "page"}
        else:
            from qwenops.setup.modelfiles import write_whole

            write_whole(output, text)
            data |= {"written": str(output), "page_bytes": len(text.encode())}
    return Result("qwenops.report/1", data, notes=notes)


def check_output(path: Path, *, force: bool) -> None:
    """Raise BadInput, before anything is worked out, where the page could not or should not be written."""
    if path.is_dir():
        raise BadInput(f"{path} is a folder", do=f"-o {path / 'report.html'}")
    if not path.parent.is_dir():
        raise BadInput(f"there is no folder {path.parent}", do=f"mkdir -p {path.parent}")
    if not path.exists():
        return
    if not path.is_file():
        raise BadInput(f"{path} is no file", do="-o report.html, or -o - for the standard output")
    if not force and not _is_report(path):
        raise BadInput(
            f"{path} is there and is no report of qwenops", do="name another file, or --force to write over it"
        )


def _is_report(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _MARK in file.read(4096)
    except OSError as why:
        raise BadInput(f"{path} cannot be read: {why.strerror}", do=f"ls -l {path}") from why


def _joined(
    kept: History,
    given: tuple[Given, ...],
    mmproj: Given | None,
    *,
    task: str,
    gpus: tuple[str, ...],
    offline: bool,
    on_model: OnModel,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    from qwenops.plan.profile import profile
    from qwenops.setup import report_measured as measured
    from qwenops.setup.answers import look_around
    from qwenops.setup.report_memory import memory_rows

    wanted = profile(task)
    models = _models(given, mmproj, offline=offline)
    machine, runtime = look_around(None)
    names = read_names(kept, models)
    loads, results = names.loads(kept), names.results(kept)
    where = where_it_is(given, models, runtime.store if runtime else None)
    plans, notes = _plans(models, task, machine, runtime, gpus, kept)
    explored = models or names.found_models()
    data = {
        "made": {"at": datetime.now(timezone.utc).isoformat(timespec="seconds"), "qwenops": __version__},
        "task": {"name": wanted.name, "title": wanted.title},
        "machine": _machine(machine, runtime),
        "models": [_model(names.within(m.name for m in explored), model) for model in explored],
        "plans": plans,
        "explorer": _explorer(explored[:MOST_EXPLORED], names, gpus, kept, wanted, plans, on_model),
        "memory": memory_rows(names, loads, results),
        "speed": measured.speed_rows(names, results),
        "quality": measured.quality_rows(names, results),
        "reading": measured.reading_rows(names, results),
        "vision": measured.vision_rows(names, results),
    }
    notes = (*where, *notes)
    left_out = len(explored) - MOST_EXPLORED
    if left_out > 0:
        notes = (*notes, f"the explorer has the first {MOST_EXPLORED} of {len(explored)} models: name fewer to choose")
    return data, notes


def _models(given: tuple[Given, ...], mmproj: Given | None, *, offline: bool) -> tuple[Model, ...]:
    """The models that were named, which may be different ones: each with its quants in order, none twice."""
    found = [m for one in given for m in variants((one,), mmproj, offline=offline, drawn=True)]
    return by_model({(m.source, m.quant): m for m in found}.values())


def _model(names: Names, model: Model) -> dict[str, Any]:
    from qwenops.plan.types import model_entry
    from qwenops.report.plain import whole

    entry = model_entry(model)
    files = {key: _without_folder(entry[key]) for key in ("file", "projector")}
    asked = [files["file"]]
    if model.drawn:  # there is no file: the name and the quant say which it is
        asked = [str(model.remote).split(" (")[0], "--quant", model.quant]
    data = {**entry, **files, "label": names.label(model.name, model.quant), "asked": asked, "here": not model.remote}
    return {key: whole(value) if isinstance(value, str) else value for key, value in data.items()}


def _without_folder(source: str | None) -> str | None:
    """A reference as it stands; of a path the file's own name, since folders say who one is."""
    from qwenops.report.plain import whole

    if source is None or source.lower().startswith(REFERENCES):
        return source
    return whole(Path(source).name)


def _machine(machine: Machine, runtime: Runtime | None) -> dict[str, Any]:
    """What was found, without what is nobody's business but the user's: paths, users, processes."""
    devices = runtime.devices if runtime and runtime.devices else machine.devices
    shown = ("name", "kind", "description", "total_bytes", "free_bytes", "driver", "unified", "compute_capability")
    seen = {d.description: d for d in machine.devices}
    return {
        "devices": [
            {key: asdict(d)[key] for key in shown}
            | {"driver": d.driver or getattr(seen.get(d.description), "driver", None)}
            for d in devices
        ],
        "host": asdict(machine.host),
        "runtime": {
            "version": runtime.version,
            "reachable": runtime.reachable,
            "llama_server_build": runtime.llama_server_build,
            "place": runtime.place,
            "settings": [
                {"name": s.name, "value": s.value}
                for s in runtime.settings
                if s.value and not s.source.startswith("default")
            ],
        }
        if runtime
        else None,
    }


def _plans(
    models: Sequence[Model],
    task: str,
    machine: Machine,
    runtime: Runtime | None,
    gpus: tuple[str, ...],
    kept: History,
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The plan of each model for the first card that was named, else for this machine; none where all cards are."""
    from qwenops.machine.detect import detect
    from qwenops.plan.choose import plan

    if "all" in gpus:
        return [], ()
    place, asked = (detect(gpus[0]), None) if gpus else (machine, runtime)
    groups: dict[tuple[str, str], list[Model]] = {}
    for model in models:
        groups.setdefault((model.name, model.architecture), []).append(model)
    plans, notes = [], []
    twice = Counter(name for name, _ in groups)
    for (name, architecture), variants_ in groups.items():
        try:
            made = plan(variants_, task, place, asked, history=kept if asked else None)
        except (BadInput, PartMissing) as why:
            notes.append(f"no plan of {name}: {why.message}")
            continue
        said = f"{name} ({architecture})" if twice[name] > 1 else name
        plans.append({"model": said, **_plan_entry(made, gpus[0] if gpus else None)})
        notes += made.notes
    return plans, tuple(dict.fromkeys(notes))


def _plan_entry(made: Plan, gpu: str | None) -> dict[str, Any]:
    data = made.as_data()
    chosen = made.chosen
    need = data["need"]
    others = [("runner-up", o) for o in data["runners_up"]] + [("left out", o) for o in data["rejected"]]
    near = [("nearest", o) for o in data["nearest"]]
    return {
        "task": made.profile,
        "for": gpu or "this machine",
        "fits": made.fits,
        "choice": _without_paths(data["choice"]) if chosen else None,
        "rung": need["rung"] if need else None,
        "total_device_bytes": need["total_device_bytes"] if need else 0,
        "total_host_bytes": need["host"]["total_bytes"] if need else 0,
        "free_bytes": sum(d["free_bytes"] for d in need["devices"]) if need else 0,
        "reasons": data["reasons"],
        "others": [{"as": word, **_without_paths(o)} for word, o in (*others, *near)],
    }


def _without_paths(choice: Mapping[str, Any]) -> dict[str, Any]:
    return {**choice, "file": _without_folder(choice["file"]), "projector": bool(choice["projector"])}


def _explorer(
    models: Sequence[Model],
    names: Names,
    gpus: tuple[str, ...],
    kept: History,
    wanted: Profile,
    plans: Sequence[Mapping[str, Any]],
    on_model: OnModel,
) -> dict[str, Any] | None:
    """The grids of every model on every card, as the page's explorer reads them; None where nothing can be asked.

    This machine is looked at as `need --rung closed-form` looks at it.
    """
    from qwenops.machine.cards import known_cards
    from qwenops.machine.detect import detect
    from qwenops.memory.learned import learn
    from qwenops.plan.explorer import explore, host_room_bytes
    from qwenops.plan.ground import ground
    from qwenops.setup.answers import look_around

    if not models:
        return None
    every = [f"{card.name} {size}GB" for card in known_cards() for size, _ in card.sizes_bytes]
    named = list(dict.fromkeys(n for gpu in gpus for n in (every if gpu == "all" else (gpu,))))
    runtime = None
    try:
        if named:
            grounds = [ground(detect(name), None) for name in named]
        else:
            machine, runtime = look_around(None, probe_devices=False)
            grounds = [ground(machine, runtime)]
    except QwenopsError:
        if named:
            raise
        return None  # a server on another machine: its devices are not known
    learned = learn(kept, runtime)
    names = names.within(model.name for model in models)
    start: dict[str, Any] = {
        "num_ctx": wanted.floor(sees=True, image_tokens=wanted.image_tokens),
        "kv_type": grounds[0].kv_type,
        "ubatch": 512,
        "image_tokens": wanted.image_tokens,
        "images": wanted.images,
        "model": 0,
    }
    choices = [plan["choice"] for plan in plans if plan["choice"]]
    if choices:
        start |= {key: choices[0][key] for key in ("num_ctx", "kv_type", "ubatch", "images")}
        start["model"] = next((n for n, m in enumerate(models) if _without_folder(m.source) == choices[0]["file"]), 0)
    contexts = (start["num_ctx"], *(choice["num_ctx"] for choice in choices))
    found = explore(models, grounds, learned, contexts=contexts, ubatch=start["ubatch"], on_model=on_model)
    return {
        "cards": [
            {
                "name": name,
                "devices": [
                    {key: getattr(d, key) for key in ("name", "description", "free_bytes", "total_bytes")}
                    for d in g.devices
                ],
                "host_room_bytes": host_room_bytes(g),
            }
            for name, g in zip(named or ["this machine"], grounds, strict=True)
        ],
        "models": [
            {
                **_model(names, model),
                "sees": model.projector is not None or model.inline_vision,
                "caches": [list(cache) for cache in one.axes.caches],
                "contexts": list(one.axes.contexts),
                "image_limits": list(one.axes.image_limits),
                "refused": dict(one.axes.refused),
                "grids": [grid.as_data() for grid in one.grids],
                "grid_of_card": list(one.grid_of_ground),
            }
            for model, one in zip(models, found, strict=True)
        ],
        "start": start,
    }
