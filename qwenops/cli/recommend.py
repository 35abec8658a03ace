"""qwenops recommend: what to run, in one line, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import MODEL, gpu_option, model_options, offline_option, returns_result, task_options
from qwenops.result import Result


@click.command("recommend")
@click.argument("models", nargs=-1, type=MODEL, metavar="[MODEL]...")
@model_options
@task_options
@gpu_option
@offline_option
@returns_result
def command(models: tuple[Path | str, ...], mmproj: Path | str | None, gpu: str | None, **wish: Any) -> Result:
    """Say in one line what to run and why, with what was measured and what was not.

    MODEL is what `plan` takes: files, a folder of variants, a name or a reference; without one, what was set up here.
    A variant of fewer bits is recommended only where it was measured to serve the task as well; otherwise the one of
    most bits that fits.

    \b
        qwenops recommend ./Qwen3-VL-8B/ --for ocr
        qwenops recommend --json | jq -r .line
    """
    from qwenops.setup.recommend import recommend_result

    return recommend_result(models, mmproj, gpu=gpu, **wish)
