"""qwenops image text-check: whether the words in a picture are the words that were asked for."""

from __future__ import annotations

from pathlib import Path

import click

from qwenops.cli.common import FILE, following, returns_result, say
from qwenops.result import Result


@click.command("text-check")
@click.argument("pictures", nargs=-1, required=True, type=FILE)
@click.option("--prompt", metavar="TEXT", help="The prompt of the pictures: its words in quotes are looked for.")
@click.option("-f", "--prompt-file", type=FILE, metavar="FILE", help="The same from a file; - is stdin.")
@click.option("--by", required=True, metavar="MODEL", help="The vision model of Ollama that reads them.")
@returns_result
def text_check(pictures: tuple[Path, ...], prompt: str | None, prompt_file: Path | None, by: str) -> Result:
    """Read pictures back and compare their words with the prompt's; several pictures are told apart.

    Says of each text in quotes whether it is right, wrong (which word, its character error rate) or missing, what else
    stands in the picture, and which picture is best. Exit code 1 when none has every text right. Nothing is sent
    anywhere but to the local Ollama. A reader can be wrong too: look at what it says it read.

    \b
        qwenops image text-check sign-*.png --by qwen3-vl-8b-ocr --prompt 'The sign above the door reads "OPEN".'
    """
    from qwenops.setup.image_prompts import read_prompt
    from qwenops.setup.image_texts import text_check_result

    with following() as progress:
        return text_check_result(pictures, read_prompt(prompt, prompt_file), by, say=say, progress=progress)
