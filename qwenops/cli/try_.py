"""qwenops try: models on one's own pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import FILE, following, returns_result, say
from qwenops.result import Result


@click.command("try")
@click.argument("names", metavar="NAME")
@click.argument("given", nargs=-1, metavar="FILE... [PROMPT]")
@click.option("--on", multiple=True, type=FILE, metavar="FILE", help="Pages for several models: NAME NAME --on FOLDER.")
@click.option("--prompt", metavar="TEXT", help="The question.  [default: the makers' own words for the task]")
@click.option("--for", "task", default="ocr", show_default=True, metavar="TASK", help="Whose usual prompt is used.")
@click.option("--num-predict", type=click.IntRange(1, 65536), default=4096, show_default=True, help="Longest answer.")
@click.option("--think/--no-think", default=None, help="Let a model that can choose think, or not.")
@click.option("--schema", type=FILE, metavar="FILE", help="A JSON schema that answers must follow.")
@click.option("--out", type=FILE, metavar="DIR", help="Write answers as text files, a folder a model.")
@returns_result
def command(names: str, given: tuple[str, ...], on: tuple[Path, ...], prompt: str | None, **options: Any) -> Result:
    """Show pictures, folders or PDFs to registered models, and see what they answer.

    Several models (with commas, or with --on) take turns, so that each is loaded once; a table at the end has them
    side by side. The last thing given is the prompt where it is no file. Ctrl-C keeps what is finished. PDFs need
    pip install "qwenops[pdf]".

    \b
        qwenops try qwen3-vl-8b-instruct-ocr scan.png
        qwenops try eyes-q4,eyes-q8 ./pages/ "Read the total of this receipt."
        qwenops try eyes-q4 eyes-q8 --on ./pages/ --out answers/ --schema invoice.json
    """
    from qwenops.setup.trying import TryOptions, split_asked, try_result

    models, files, words = split_asked(names, given, on, prompt)
    with following() as progress:
        return try_result(models, files, words, TryOptions(**options), say=say, progress=progress)
