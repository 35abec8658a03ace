"""Registered models as results: register, list, show, remove, verify."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from qwenops.errors import CheckFailed, QwenopsError
from qwenops.ollama.types import Progress, Registered, silent
from qwenops.result import Result
from qwenops.runtime.types import Runtime


def find_runtime(*, probe_devices: bool = False) -> Runtime:
    """The Ollama server of this machine, or the one OLLAMA_HOST names."""
    from qwenops.runtime.discover import discover

    return discover(probe_devices=probe_devices)


def register_result(
    name: str,
    modelfile: Path,
    *,
    via: str = "auto",
    copy: bool = False,
    replace: bool = False,
    dry_run: bool = False,
    lint: bool = True,
    progress: Progress = silent,
) -> Result:
    """Register a Modelfile after the linter passed it ("qwenops.register/1"); `lint` off lets its errors pass."""
    from qwenops.modelfile.lint import check
    from qwenops.ollama.from_modelfile import spec_from
    from qwenops.ollama.register import register

    data = modelfile.read_bytes()
    base_dir = modelfile.absolute().parent
    findings = check(data, base_dir=base_dir)
    errors = [f for f in findings if f.level == "error"]
    if errors and lint:
        first = errors[0]
        raise CheckFailed(
            f"{modelfile}:{first.line}: {first.message}",
            do=(first.do, f"qwenops check {modelfile}") if first.do else f"qwenops check {modelfile}",
        )
    runtime = find_runtime()
    done = register(
        spec_from(data, base_dir),
        name,
        runtime,
        via=via,  # type: ignore[arg-type]
        copy=copy,
        replace=replace,
        dry_run=dry_run,
        progress=progress,
    )
    notes = (*done.notes, *(f"line {f.line}: {f.message}" for f in findings))
    return Result("qwenops.register/1", registered_entry(done, dry_run=dry_run), notes=notes)


def registered_entry(done: Registered, *, dry_run: bool = False) -> dict[str, Any]:
    """A registration as plain JSON values."""
    data = asdict(done)
    data.pop("notes")
    return {**data, "manifest": str(done.manifest) if done.manifest else None, "dry_run": dry_run}


def remove_result(names: tuple[str, ...], *, dry_run: bool) -> Result:
    """Take models away ("qwenops.remove/1"); each is tried, and the first error is raised afterwards."""
    from qwenops.ollama.remove import remove_model

    runtime = find_runtime()
    removed: list[dict[str, Any]] = []
    failed: QwenopsError | None = None
    for name in names:
        try:
            done = remove_model(runtime, name, dry_run=dry_run)
        except QwenopsError as error:
            failed = failed or error
            continue
        removed.append({**asdict(done), "notes": list(done.notes)})
    if failed and not removed:
        raise failed
    notes = (failed.message,) if failed else ()
    return Result(
        "qwenops.remove/1",
        {"models": removed, "dry_run": dry_run},
        notes=notes,
        exit_code=failed.exit_code if failed else 0,
    )
