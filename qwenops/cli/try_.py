"""qwenops try: a model on one's own pages."""

from __future__ import annotations

from typing import Any

import click

from qwenops.cli.common import following, returns_result, say
from qwenops.result import Result


@click.command("try")
@click.argument("names")
@click.argument("given", nargs=-1, required=True, metavar="FILE... [PROMPT]")
@click.option("--for", "task", default="ocr", show_default=True, metavar="TASK", help="Whose usual prompt is used.")
@click.option("--num-predict", type=click.IntRange(1, 65536), default=4096, show_default=True, help="Longest answer.")
@click.option("--think/--no-think", default=None, help="Let a model that can choose think, or not.")
@returns_result
def command(names: str, given: tuple[str, ...], **options: Any) -> Result:
    """Show pictures, folders or PDFs to registered models, and see what they answer.

    NAMES is one model or several with commas between, which then answer side by side. The last thing given is the
    prompt where it is no file; without one the makers' own words for the task are used. PDFs need
    pip install "qwenops[pdf]".

    \b
        qwenops try qwen3-vl-8b-instruct-ocr scan.png
        qwenops try eyes-q4,eyes-q8 ./pages/ "Read the total of this receipt."
    """
    from qwenops.setup.trying import split_given, try_result

    files, prompt = split_given(given)
    with following() as progress:
        wanted = [name for name in names.split(",") if name.strip()]
        return try_result(wanted, files, prompt, **options, say=say, progress=progress)
