"""qwenops bench vision: what variants see in pictures whose answers are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import FILE, MODEL, following, returns_result
from qwenops.cli.seers import engine_of, page_line, seer_options
from qwenops.result import Result


@click.command("vision")
@click.argument("models", nargs=-1, type=MODEL)
@click.option("--questions", default=40, show_default=True, type=click.IntRange(1, 5000), metavar="N", help="How many.")
@click.option(
    "--kind", "kinds", multiple=True, metavar="KIND", help="Only such: count, relation, difference, ground; repeatable."
)
@click.option("--save-pages", type=FILE, metavar="DIR", help="Write the pictures with questions and answers.")
@seer_options(most_tokens=256)
@returns_result
def command(
    models: tuple[Path | str, ...], questions: int, kinds: tuple[str, ...], save_pages: Path | None, **options: Any
) -> Result:
    """Measure what variants see: counting, relations, two pictures that differ, boxes.

    All pictures are made and their answers known. Boxes are judged by their overlap (IoU) in the coordinates of each
    family. Every answer is kept: a run that is stopped goes on where it was. With --engine ollama, MODEL is a
    registered name. How answers are judged: docs/reading.md.

    \b
        qwenops bench vision Qwen3VL-8B-Q4_K_M.gguf Qwen3VL-8B-Q8_0.gguf
        qwenops bench vision eyes-q4 eyes-q8 --engine ollama --kind count --kind ground
    """
    from qwenops.setup.vision import VisionOptions, vision_result

    asked = VisionOptions(
        questions=questions,
        seed=options["seed"],
        kinds=kinds,
        image_tokens=options["image_tokens"],
        temperatures=options["temperatures"],
        most_tokens=options["most_tokens"],
        save_pages=save_pages,
    )
    with following() as follow:
        return vision_result(models, asked, engine_of(options), on_page=page_line(follow, "question"))
