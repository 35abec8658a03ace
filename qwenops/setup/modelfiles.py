"""From a plan to a Modelfile, and from a Modelfile to its findings, as results ready to print."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from qwenops import __version__
from qwenops.errors import BadInput, DoesNotFit
from qwenops.plan.types import Judged, Plan
from qwenops.result import Result
from qwenops.setup.answers import make_plan, plan_as_result
from qwenops.setup.given import Given, must_be_here
from qwenops.units import human

RUNG_WORDS = {"runtime": "asked of the runtime", "closed form": "by formula", "measured": "measured before"}


def modelfile_text(
    plan: Plan, *, mode: str | None = None, system: str | None = None, template: Path | None = None
) -> str:
    """The Modelfile of a plan that fits; DoesNotFit when it does not."""
    from qwenops.modelfile.context import context_for
    from qwenops.modelfile.render import render
    from qwenops.modelfile.types import Mode

    if plan.chosen is None:
        raise DoesNotFit("nothing fits, so there is nothing to write", do="qwenops plan … says what comes nearest")
    choice = plan.chosen.choice
    context = context_for(
        choice.model,
        plan.profile,
        num_ctx=choice.settings.num_ctx,
        num_gpu=choice.num_gpu,
        num_batch=choice.settings.ubatch,
        images=choice.images,
        image_tokens=choice.settings.image_tokens,
        projector_device=choice.settings.projector_device,
        mode=cast("Mode | None", mode),
        system=system,
        summary=summary(plan.chosen),
    )
    return render(plan.profile, context, template)


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
    return Result("qwenops.modelfile/1", data, notes=made.notes)


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
