"""qwenops bench ocr: what variants read of pages whose text is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import FILE, MODEL, following, returns_result
from qwenops.cli.seers import engine_of, page_line, seer_options
from qwenops.result import Result


@click.command("ocr")
@click.argument("models", nargs=-1, type=MODEL)
@click.option(
    "--pages", default=42, show_default=True, type=click.IntRange(1, 5000), metavar="N", help="How many pages."
)
@click.option(
    "--kind", "kinds", multiple=True, metavar="KIND", help="Only such pages, repeatable: clean, table, chinese, …"
)
@click.option("--folder", type=FILE, metavar="DIR", help="Own pages: pictures with .txt (or .json fields) beside them.")
@click.option("--prompt", metavar="TEXT", help="The question.  [default: the makers' own words]")
@click.option("--strict", is_flag=True, help="Blanks, line ends and Markdown's marks count as well.")
@click.option(
    "--save-pages", type=FILE, metavar="DIR", help="Write the pages with their truths, as --folder reads them."
)
@seer_options(most_tokens=2048)
@returns_result
def command(
    models: tuple[Path | str, ...],
    pages: int,
    kinds: tuple[str, ...],
    folder: Path | None,
    prompt: str | None,
    strict: bool,
    save_pages: Path | None,
    **options: Any,
) -> Result:
    """Measure what variants read: made pages with known text, or your own.

    Character and word error rate, fields of forms, loops, empty answers, seconds and tokens a page, for every model,
    image budget and temperature. Every answer is kept: a run that is stopped goes on where it was. With --engine
    ollama, MODEL is a registered name. What counts as an error: docs/reading.md.

    \b
        qwenops bench ocr Qwen3VL-8B-Q4_K_M.gguf Qwen3VL-8B-Q8_0.gguf
        qwenops bench ocr ./Qwen3-VL-8B/ --image-tokens 1024 --image-tokens 4096
        qwenops bench ocr eyes-q4 eyes-q8 --engine ollama --folder ./scans/
        qwenops bench ocr --save-pages ./pages/
    """
    from qwenops.setup.reading import OcrOptions, ocr_result

    asked = OcrOptions(
        pages=pages,
        seed=options["seed"],
        kinds=kinds,
        folder=folder,
        image_tokens=options["image_tokens"],
        temperatures=options["temperatures"],
        most_tokens=options["most_tokens"],
        prompt=prompt,
        strict=strict,
        save_pages=save_pages,
    )
    with following() as follow:
        return ocr_result(models, asked, engine_of(options), on_page=page_line(follow, "page"), progress=follow)
