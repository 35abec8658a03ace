"""qwenops plan: the choice, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import MODEL, gpu_option, model_options, offline_option, returns_result, task_options
from qwenops.result import Result


@click.command("plan")
@click.argument("models", nargs=-1, required=True, type=MODEL)
@model_options
@task_options
@gpu_option
@offline_option
@returns_result
def command(models: tuple[Path | str, ...], mmproj: Path | str | None, gpu: str | None, **wish: Any) -> Result:
    """Choose quant, context and settings for a task on this machine.

    MODELS are the variants of one model: files, or a folder that holds them. The best quant that keeps everything on
    the device with the context that the task needs wins. A model that is not here is planned for by its headers:
    hf:OWNER/REPO (all its quants), hf:OWNER/REPO:QUANT, ollama:NAME:TAG, https://host/x.gguf.

    \b
        qwenops plan ./Qwen3-VL-8B/ --for ocr
        qwenops plan Qwen3VL-8B-*.gguf --for chat --gpu "RTX 3050 8GB"
        qwenops plan hf:unsloth/Qwen3-VL-8B-Instruct-GGUF --for ocr
    """
    from qwenops.setup.answers import plan_result

    return plan_result(models, mmproj, gpu=gpu, **wish)
