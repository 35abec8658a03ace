"""qwenops image-tokens: what pictures cost, before they are sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import FILE, MODEL, offline_option, returns_result
from qwenops.result import Result
from qwenops.setup.images import FAMILIES


@click.command("image-tokens")
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--model", type=MODEL, help="Count as this model does: a file, a reference, or a name in Ollama.")
@click.option("--family", type=click.Choice(list(FAMILIES)), help="Count as this family does.  [default: qwen3vl]")
@click.option("--min-tokens", type=click.IntRange(1, 65536), metavar="N", help="Scale small pictures up to this.")
@click.option("--max-tokens", type=click.IntRange(1, 65536), metavar="N", help="Scale large pictures down to this.")
@click.option("--ctx", "num_ctx", type=click.IntRange(min=1), metavar="N", help="Check that they fit this context.")
@click.option("--dpi", type=click.FloatRange(1, 10000), metavar="N", help="What the pictures were scanned at.")
@offline_option
@returns_result
def command(files: tuple[Path, ...], **options: Any) -> Result:
    """Say how many tokens pictures take, and what the model gets to see of them.

    A picture is scaled to whole cells of 28 or 32 pixels, one token each. Without limits those of Ollama are used:
    at least 1024 tokens for Qwen2-VL, 2.5-VL and 3-VL, at most 4096 or what the server's LLAMA_ARG_IMAGE_MAX_TOKENS
    says. JSON: a list with a row for each picture, tokens without the two markers.

    \b
        qwenops image-tokens page.png --family qwen3vl --ctx 8192
    """
    if options["model"] is not None and options["family"] is not None:
        raise click.UsageError("--model and --family say the same thing twice; give one.")
    from qwenops.setup.images import image_tokens_result

    return image_tokens_result(files, **options)
