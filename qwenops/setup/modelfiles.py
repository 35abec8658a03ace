"""From a plan to a Modelfile, and from a Modelfile to its findings, as results ready to print."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from qwenops import __version__
from qwenops.errors import BadInput, DoesNotFit
from qwenops.plan.types import Choice, Judged, Plan
from qwenops.result import Result
from qwenops.setup.answers import make_plan, plan_as_result
from qwenops.setup.given import Given, must_be_here
from qwenops.units import human

if TYPE_CHECKING:
    from qwenops.model.types import Model
    from qwenops.modelfile.context import RenderContext

_PLACING = ("main_gpu", "use_mmap", "num_thread", "draft_num_predict")
RUNG_WORDS = {"runtime": "asked of the runtime", "closed form": "by formula", "measured": "measured before"}


def modelfile_text(
    plan: Plan, *, mode: str | None = None, system: str | None = None, template: Path | None = None
) -> str:
    """The Modelfile of a plan that fits, FROM the name of a model that Ollama has; DoesNotFit when it does not."""
    from qwenops.modelfile.render import render

    if plan.chosen is None:
        raise DoesNotFit("nothing fits, so there is nothing to write", do="qwenops plan … says what comes nearest")
    choice = plan.chosen.choice
    context = context_of(choice, plan.profile, mode=mode, system=system, head=summary(plan.chosen))
    if base_of(choice.model):
        context = from_stored(choice.model, context)
    return render(plan.profile, context, template)


def context_of(
    choice: Choice, task: str, *, mode: str | None = None, system: str | None = None, head: tuple[str, ...] = ()
) -> RenderContext:
    """A choice as templates see it; `head` are the lines that a Modelfile begins with."""
    from qwenops.modelfile.context import context_for
    from qwenops.modelfile.types import Mode

    return context_for(
        choice.model,
        task,
        num_ctx=choice.settings.num_ctx,
        num_gpu=choice.num_gpu,
        num_batch=choice.settings.ubatch,
        images=choice.images,
        image_tokens=choice.picture_tokens,
        projector_device=choice.settings.projector_device,
        mode=cast("Mode | None", mode),
        system=system,
        summary=head,
    )


UNDONE = {"num_gpu": -1, "num_predict": -1}
"""What Ollama itself takes where nobody says these (api/types.go, DefaultOptions, v0.32.14)."""


def from_stored(model: Model, context: RenderContext) -> RenderContext:
    """The context of a model that is made from another one of Ollama's by its name, which passes its settings on."""
    from qwenops.model.stored import inherited
    from qwenops.modelfile.families import ChatFormat

    passed_on = inherited(model)
    said = {"num_gpu": context.num_gpu, "num_predict": context.num_predict}
    undone = {k: v for k, v in UNDONE.items() if said[k] is None and passed_on.params.get(k, v) != v}
    form = context.format
    if passed_on.renderer:
        form = ChatFormat(None, None, f"RENDERER and PARSER are those of {model.stored}: {passed_on.renderer}.")
    return replace(context, base=base_of(model), undone=undone, format=form)


def base_of(model: Model) -> str | None:
    """The name that FROM says for a model which Ollama has, or will have once it has pulled it; None for files."""
    remote = model.remote or ""
    return model.stored or (remote.removeprefix("ollama:") if remote.startswith("ollama:") else None)


def inherited_notes(model: Model) -> tuple[str, ...]:
    """What a model that is made from a stored one keeps of it, where people would not think of it."""
    from qwenops.model.stored import inherited

    passed_on = inherited(model)
    kept = [*passed_on.texts, *(f"{k} {v}" for k, v in passed_on.params.items() if k in _PLACING)]
    return (f"FROM {model.stored} passes on, and they stay in force: {', '.join(kept)}",) if kept else ()


def summary(chosen: Judged) -> tuple[str, ...]:
    """The head of the Modelfile: who wrote it, what it was planned for, how much it takes and who said so."""
    need, choice = chosen.need, chosen.choice
    said = [f"Made by qwenops {__version__}."]
    source = RUNG_WORDS.get(need.rung, need.rung)
    if need.devices:
        names = ", ".join(d.name for d in need.devices)
        total, free = need.total_device_bytes, sum(d.free_bytes for d in need.devices)
        said.append(f"Needs {human(total)} of {human(free)} free on {names} ({source}).")
    else:
        said.append(f"Needs {human(need.host.total_bytes)} of host memory ({source}).")
    for name, value in choice.server_settings:
        said.append(f"The Ollama server must run with {name}={value}.")
    return tuple(said)


def render_result(
    paths: tuple[Given, ...],
    mmproj: Given | None,
    *,
    gpu: str | None,
    output: Path | None,
    mode: str | None = None,
    system: str | None = None,
    template: Path | None = None,
    **rest: Any,
) -> Result:
    """Plan, and write the Modelfile to a file or show it ("qwenops.modelfile/1")."""
    must_be_here((*paths, mmproj), "render")
    made, machine, runtime = make_plan(paths, mmproj, gpu=gpu, **rest)
    if made.chosen is None:
        return plan_as_result(made, machine, runtime)
    text = modelfile_text(made, mode=mode, system=system, template=template)
    if output is not None:
        write_whole(output, text)
    data = {"text": text, "written": str(output) if output else None, "plan": made.as_data()}
    notes = (*made.notes, *inherited_notes(made.chosen.choice.model))
    return Result("qwenops.modelfile/1", data, notes=notes)


def check_result(path: Path) -> Result:
    """Lint a Modelfile ("qwenops.check/1"); exit code 1 when there is an error."""
    from dataclasses import asdict

    from qwenops.modelfile.lint import check

    findings = check(path.read_bytes(), base_dir=path.absolute().parent)
    errors = sum(f.level == "error" for f in findings)
    data = {
        "file": str(path),
        "findings": [asdict(f) for f in findings],
        "errors": errors,
        "warnings": len(findings) - errors,
    }
    return Result("qwenops.check/1", data, exit_code=1 if errors else 0)


def kept_modelfile(name: str) -> Path:
    """Where the Modelfile of a name is kept: one place for every spelling of the name."""
    import re

    from qwenops.paths import data_dir
    from qwenops.runtime.names import checked_name

    short = checked_name(name).short.removesuffix(":latest")
    return data_dir() / "modelfiles" / f"{re.sub(r'[/:]', '-', short)}.Modelfile"


def write_whole(path: Path, text: str) -> None:
    """Write a file in one step: the old one stays whole until the new one is."""
    import os

    if path.is_dir():
        raise BadInput(f"{path} is a folder", do=f"name a file, such as {path / 'Modelfile'}")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8", newline="")  # a line's end is the text's own
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
