"""qwenops plan: the choice, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import MODEL, gpu_option, model_options, returns_result, task_options
from qwenops.result import Result


@click.command("plan")
@click.argument("models", nargs=-1, required=True, type=MODEL)
@model_options
@task_options
@gpu_option
@returns_result
def command(models: tuple[Path, ...], mmproj: Path | None, gpu: str | None, **wish: Any) -> Result:
    """Choose quant, context and settings for a task on this machine.

    MODELS are the variants of one model: files, or a folder that holds them. The best quant that keeps everything on
    the device with the context that the task needs wins.

    \b
        qwenops plan ./Qwen3-VL-8B/ --for ocr
        qwenops plan Qwen3VL-8B-*.gguf --for chat --gpu "RTX 3050 8GB"
    """
    from qwenops.setup.answers import plan_result

    return plan_result(models, mmproj, gpu=gpu, **wish)
