"""qwenops report: what is known, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import MODEL, following, model_options, offline_option, returns_result
from qwenops.result import Result


@click.command("report")
@click.argument("models", nargs=-1, type=MODEL)
@model_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Write the page to this file; - prints it.",
)
@click.option("--force", is_flag=True, help="Write over a file that is no report.")
@click.option("--for", "task", default="chat", show_default=True, metavar="TASK", help="The task to plan for.")
@click.option(
    "--gpu",
    "gpus",
    multiple=True,
    metavar="SPEC",
    help="A card of the explorer, repeatable; all: every known card.  [default: this machine]",
)
@click.option("--markdown", is_flag=True, help="Print Markdown, for pasting.")
@offline_option
@returns_result
def command(models: tuple[Path | str, ...], mmproj: Path | str | None, **options: Any) -> Result:
    """Show what was planned and measured, as text, Markdown or one page that opens offline.

    The page has the machine, memory predicted beside measured, speed, quality against size, what was misread, and an
    explorer in which context, pictures and KV type move the memory against the card. It is one file, asks nothing of
    any server, and names no folder of yours.

    MODELS are files, folders of quants or references; without any, everything that the history knows.

    \b
        qwenops report -o report.html
        qwenops report ./Qwen3-VL-8B/ --for ocr --gpu "RTX 3060 12GB" --gpu "RTX 4090" -o report.html
        qwenops report --markdown >> notes.md
    """
    from qwenops.setup.report import report_result

    with following() as follow:
        return report_result(
            models,
            mmproj,
            on_model=lambda done, of: follow.line(f"working out what model {done + 1} of {of} needs"),
            **options,
        )
