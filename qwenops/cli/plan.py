"""qwenops plan: the choice, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import (
    MODEL,
    exl_option,
    given_only,
    gpu_option,
    model_options,
    offline_option,
    returns_result,
    task_options,
)
from qwenops.result import Result


@click.command("plan")
@click.argument("models", nargs=-1, required=True, type=MODEL)
@model_options
@task_options
@click.option(
    "--beside", multiple=True, type=MODEL, metavar="EXL", help="An EXL2 or EXL3 model, to be shown in the same table."
)
@exl_option
@gpu_option
@offline_option
@returns_result
def command(
    models: tuple[Path | str, ...],
    mmproj: Path | str | None,
    gpu: str | None,
    beside: tuple[Path | str, ...],
    cache_bits: str | None,
    **wish: Any,
) -> Result:
    """Choose quant, context and settings for a task on this machine.

    MODELS are the variants of one model: files, or a folder that holds them. The best quant that keeps everything on
    the device with the context that the task needs wins. A model that is not here is planned for by its headers:
    hf:OWNER/REPO (all its quants), hf:OWNER/REPO:QUANT, ollama:NAME:TAG, https://host/x.gguf.

    EXL2 and EXL3 (a folder, or exl3:OWNER/REPO@REVISION) are planned for ExLlama under TabbyAPI; --beside puts them
    into one table with the GGUF plan: what each engine would fit on this card.

    \b
        qwenops plan ./Qwen3-VL-8B/ --for ocr
        qwenops plan Qwen3VL-8B-*.gguf --for chat --gpu "RTX 3050 8GB"
        qwenops plan hf:unsloth/Qwen3-VL-8B-Instruct-GGUF --for ocr
        qwenops plan qwen3-vl:8b --beside exl3:OWNER/Qwen3-VL-8B-Instruct-exl3@4.0bpw
    """
    from qwenops.setup.exl import all_exl, beside_result, exl_plan_result

    if all_exl(models):
        given_only(EXL_WISHES, "an EXL model")
        return exl_plan_result(models, gpu=gpu, cache_bits=cache_bits, **exl_wish(wish))
    if beside:
        return beside_result(models, beside, mmproj, gpu=gpu, cache_bits=cache_bits, **wish)
    given_only({p.name or "" for p in click.get_current_context().command.params} - {"cache_bits"}, "a GGUF model")
    from qwenops.setup.answers import plan_result

    return plan_result(models, mmproj, gpu=gpu, **wish)


EXL_WISHES = {"task", "ctx", "images", "image_tokens", "ubatch", "headroom", "cache_bits", "gpu", "offline"}


def exl_wish(wish: dict[str, Any]) -> dict[str, Any]:
    """What of a wish an EXL model is planned under."""
    return {name: value for name, value in wish.items() if name in EXL_WISHES}
