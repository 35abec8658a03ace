"""qwenops fits: models down, cards across."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import MODEL, matrix_options, offline_option, returns_result
from qwenops.result import Result


@click.command("fits")
@click.argument("models", nargs=-1, required=True, type=MODEL)
@click.option("--gpu", "gpus", multiple=True, metavar="SPEC", help="A card, repeatable; all: every known card.")
@matrix_options
@offline_option
@returns_result
def command(models: tuple[Path | str, ...], gpus: tuple[str, ...], **pins: Any) -> Result:
    """Show which models fit which cards, with the largest context in the cell.

    By formula, from the headers alone: every layer, the projector and its largest image on the card. MODELS may be
    different models, and folders of quants.

    \b
        qwenops fits ./models/ --gpu "RTX 3060 12GB" --gpu "RTX 4090" --gpu "cuda:12GiB,cuda:12GiB"
    """
    from qwenops.setup.answers import fits_result

    return fits_result(models, gpus, **pins)
