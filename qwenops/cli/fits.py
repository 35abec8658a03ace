"""qwenops fits: models down, cards across."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import MODEL, offline_option, returns_result
from qwenops.memory.types import KV_TYPES
from qwenops.result import Result


@click.command("fits")
@click.argument("models", nargs=-1, required=True, type=MODEL)
@click.option("--gpu", "gpus", multiple=True, metavar="SPEC", help="A card, repeatable; all: every known card.")
@click.option("--kv", type=click.Choice(KV_TYPES), metavar="TYPE", help="KV type.  [default: f16]")
@click.option("--image-tokens", type=click.IntRange(8, 16384), metavar="N", help="The largest image, in tokens.")
@click.option("--headroom", metavar="SIZE", help="Keep this much free on every card.  [default: 64 MiB]")
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
