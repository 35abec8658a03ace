"""qwenops image prompt: prompts checked against what the makers ask for, and written by a local model."""

from __future__ import annotations

from pathlib import Path

import click

from qwenops.cli.common import FILE, MODEL, offline_option, returns_result
from qwenops.result import Result


@click.group("prompt")
def prompt() -> None:
    """Check a prompt for a picture, or have a local model write one.

    \b
        qwenops image prompt check "A cafe with a sign that says OPEN"
    """


@prompt.command("check")
@click.argument("text", required=False)
@click.option("-f", "--file", type=FILE, metavar="FILE", help="Read the prompt from a file; - is stdin.")
@click.option("--model", default="qwen-image-2512", show_default=True, metavar="NAME", help="The model it is for.")
@click.option("--size", metavar="SIZE", help="A ratio (16:9) or pixels (1664x928).  [default: as its makers]")
@click.option(
    "--tokenizer", type=MODEL, metavar="MODEL", help="Count tokens by this GGUF's.  [default: a Qwen model found here]"
)
@offline_option
@returns_result
def check(
    text: str | None, file: Path | None, model: str, size: str | None, tokenizer: Path | str | None, offline: bool
) -> Result:
    """Find what is wrong with a prompt: tags, praise, words without quotes or place, shapes, length.

    Each finding says where, why, by whose word, and what to do. Exit code 1 when something must be mended. Tokens are
    counted by a Qwen tokenizer out of a GGUF (needs pip install "qwenops[bench]"), or bounded from both sides.

    \b
        qwenops image prompt check 'A cafe. The sign above the door reads "OPEN" in red.'
        qwenops image prompt check -f prompt.txt --size 1:1
    """
    from qwenops.setup.image_prompts import prompt_check_result, read_prompt

    return prompt_check_result(read_prompt(text, file), model=model, size=size, tokenizer=tokenizer, offline=offline)
