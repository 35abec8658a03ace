"""qwenops quants list: every quant that could be made of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import MODEL, matrix_options, model_options, offline_option, returns_result
from qwenops.result import Result


@click.command("list")
@click.argument("model", type=MODEL)
@model_options
@click.option("--gpu", "gpus", multiple=True, metavar="SPEC", help="A card, repeatable.  [default: this machine]")
@click.option(
    "--imatrix", is_flag=True, help="Make all of them with an importance matrix, not only those that need it."
)
@matrix_options
@offline_option
@returns_result
def command(model: Path | str, mmproj: Path | str | None, gpus: tuple[str, ...], **options: Any) -> Result:
    """Show every quant that could be made of a model: size, bits, and what of it fits.

    Nothing is made: which type llama-quantize gives each tensor follows from the header of any one file of the model,
    here or somewhere else. File sizes are exact to the byte.

    \b
        qwenops quants list Qwen3VL-8B-Instruct-F16.gguf --gpu "RTX 3060 12GB"
        qwenops quants list hf:Qwen/Qwen3-VL-8B-Instruct-GGUF:Q8_0 --gpu 8GiB --gpu 16GiB
    """
    from qwenops.setup.requants import quants_result

    return quants_result(model, mmproj, gpus, **options)
