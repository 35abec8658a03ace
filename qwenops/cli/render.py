"""qwenops render: the Modelfile of a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import (
    FILE,
    MODEL,
    exl_option,
    given_only,
    gpu_option,
    model_options,
    offline_option,
    returns_result,
    task_options,
)
from qwenops.errors import BadInput
from qwenops.result import Result


@click.command("render")
@click.argument("models", nargs=-1, required=True, type=MODEL)
@model_options
@task_options
@click.option(
    "--engine",
    default="ollama",
    show_default=True,
    type=click.Choice(["ollama", "tabbyapi"]),
    help="Whose file: a Modelfile, or TabbyAPI's config.yml for EXL2 and EXL3.",
)
@exl_option
@gpu_option
@offline_option
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Write to FILE instead of the terminal.")
@click.option(
    "--mode", type=click.Choice(["instruct", "thinking"]), help="Sampling of the other mode of a model that has two."
)
@click.option("--system", metavar="TEXT", help="A system prompt of your own.")
@click.option("--template", type=FILE, metavar="FILE", help="A Jinja template of your own.")
@returns_result
def command(
    models: tuple[Path | str, ...],
    mmproj: Path | str | None,
    gpu: str | None,
    engine: str,
    cache_bits: str | None,
    **options: Any,
) -> Result:
    """Write the Modelfile of a plan.

    Sampling values come from the model's own card, with the source beside each. Templates of your own go into the
    config folder (templates/NAME.j2) or are named with --template. With --engine tabbyapi it is the config.yml of
    TabbyAPI, for an EXL2 or EXL3 model.

    \b
        qwenops render Qwen3VL-8B-Instruct-Q4_K_M.gguf --for ocr -o Modelfile
        qwenops render ./Qwen3-VL-8B-Instruct-exl3 --engine tabbyapi -o config.yml
    """
    from qwenops.cli.plan import EXL_WISHES, exl_wish
    from qwenops.setup.exl import all_exl, tabby_result

    if all_exl(models) != (engine == "tabbyapi"):
        raise BadInput(
            "TabbyAPI runs EXL2 and EXL3, Ollama runs GGUF",
            do="--engine tabbyapi with an EXL model, or no --engine with a GGUF one",
        )
    if engine == "tabbyapi":
        given_only(EXL_WISHES | {"engine", "output"}, "TabbyAPI")
        return tabby_result(models, gpu=gpu, cache_bits=cache_bits, output=options["output"], **exl_wish(options))
    given_only({p.name or "" for p in click.get_current_context().command.params} - {"cache_bits"}, "a GGUF model")
    from qwenops.setup.modelfiles import render_result

    return render_result(models, mmproj, gpu=gpu, **options)
