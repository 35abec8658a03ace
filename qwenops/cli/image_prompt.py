"""qwenops image prompt: prompts checked against what the makers ask for, and written by a local model."""

from __future__ import annotations

from pathlib import Path

import click

from qwenops.cli.common import FILE, MODEL, following, offline_option, returns_result, say
from qwenops.result import Result


@click.group("prompt")
def prompt() -> None:
    """Check a prompt for a picture, or have a local model write one.

    \b
        qwenops image prompt check "A cafe with a sign that says OPEN"
        qwenops image prompt write 'a cafe with a sign that reads "OPEN"' --by qwen3:4b
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


@prompt.command("write")
@click.argument("text", required=False)
@click.option("-f", "--file", type=FILE, metavar="FILE", help="Read the wish from a file; - is stdin.")
@click.option("--by", required=True, metavar="MODEL", help="The model of the local Ollama that writes.")
@click.option("--model", default="qwen-image-2512", show_default=True, metavar="NAME", help="The model it is for.")
@click.option("--tries", type=click.IntRange(1, 20), default=3, show_default=True, help="How often it may try.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The first try's seed.")
@returns_result
def write(text: str | None, file: Path | None, by: str, model: str, tries: int, seed: int) -> Result:
    """Write a short wish out as one descriptive passage, by a model of the local Ollama.

    In the wish's own language. Texts in quotes, addresses, names and numbers are kept to the letter: that is checked,
    a passage that lost one is told so and tried again, and in the end refused, never changed. Known as names are
    words with a capital letter, in Chinese Latin words and 《titles》. The passage alone goes to stdout. Nothing is
    sent to another machine: a server or a model elsewhere is refused.

    \b
        qwenops image prompt write 'a birthday card for Anna, "42 years!" in gold' --by qwen3:4b
    """
    from qwenops.setup.image_prompts import read_prompt
    from qwenops.setup.image_writing import prompt_write_result

    wish = read_prompt(text, file)
    with following() as progress:
        return prompt_write_result(wish, by, model=model, tries=tries, seed=seed, say=say, progress=progress)
