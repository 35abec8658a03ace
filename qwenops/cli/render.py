"""qwenops render: the Modelfile of a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import FILE, MODEL, gpu_option, model_options, offline_option, returns_result, task_options
from qwenops.result import Result


@click.command("render")
@click.argument("models", nargs=-1, required=True, type=MODEL)
@model_options
@task_options
@gpu_option
@offline_option
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Write to FILE instead of the terminal.")
@click.option(
    "--mode", type=click.Choice(["instruct", "thinking"]), help="Sampling of the other mode of a model that has two."
)
@click.option("--system", metavar="TEXT", help="A system prompt of your own.")
@click.option("--template", type=FILE, metavar="FILE", help="A Jinja template of your own.")
@returns_result
def command(models: tuple[Path | str, ...], mmproj: Path | str | None, gpu: str | None, **options: Any) -> Result:
    """Write the Modelfile of a plan.

    Sampling values come from the model's own card, with the source beside each. Templates of your own go into the
    config folder (templates/NAME.j2) or are named with --template.

    \b
        qwenops render Qwen3VL-8B-Instruct-Q4_K_M.gguf --for ocr -o Modelfile
    """
    from qwenops.setup.modelfiles import render_result

    return render_result(models, mmproj, gpu=gpu, **options)
