"""qwenops need: the calculator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import (
    MODEL,
    cache_options,
    exl_option,
    given_only,
    gpu_option,
    model_options,
    offline_option,
    returns_result,
    ubatch_option,
)
from qwenops.errors import BadInput
from qwenops.result import Result

RUNGS = {"auto": "auto", "runtime": "runtime", "dry-load": "dry load", "closed-form": "closed form"}


@click.command("need")
@click.argument("model", type=MODEL)
@model_options
@click.option(
    "--quant", metavar="NAME", help="As this quant of the model would be, for example IQ4_XS; it need not exist."
)
@click.option("--imatrix", is_flag=True, help="With --quant: as made with an importance matrix.")
@click.option(
    "--ctx", default=4096, show_default=True, type=click.IntRange(1), metavar="N", help="Context per sequence."
)
@click.option(
    "--parallel", default=1, show_default=True, type=click.IntRange(1, 256), metavar="N", help="Sequences at once."
)
@click.option(
    "--kv-unified/--no-kv-unified",
    default=None,
    help="One cache for all sequences.  [default: as the server does]",
)
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Logical batch.  [default: the ubatch]")
@ubatch_option
@cache_options
@click.option(
    "--gpu-layers",
    default="all",
    show_default=True,
    metavar="N|all|auto",
    help="Layers on devices; auto: as the runtime would choose.",
)
@click.option(
    "--n-cpu-moe",
    metavar="N|all",
    help="Blocks whose experts stay on the host.  [default: as the server does]",
)
@click.option(
    "--tensor-split", metavar="N,N,…", help="Shares of several devices.  [default: as the server does, by free memory]"
)
@click.option("--main-gpu", type=click.IntRange(0), metavar="N", help="Use this device alone.")
@click.option(
    "--draft",
    type=click.IntRange(0, 64),
    metavar="N",
    help="Tokens drafted ahead (draft_num_predict).  [default: 0; with --draft-model 4]",
)
@click.option(
    "--draft-model",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="The model that drafts (DRAFT), where it is not the model's own head.",
)
@click.option(
    "--outputs",
    default="server",
    show_default=True,
    type=click.Choice(["server", "library"]),
    help="Who loads it: llama-server or llama-cpp-python.",
)
@click.option(
    "--image-tokens",
    default=4096,
    show_default=True,
    type=click.IntRange(8, 16384),
    metavar="N",
    help="The largest image, in tokens.",
)
@click.option(
    "--projector-device",
    default="gpu",
    show_default=True,
    type=click.Choice(["gpu", "cpu"]),
    help="Where images are encoded.",
)
@click.option("--swa-full", is_flag=True, help="Keep the whole context for sliding-window layers.")
@exl_option
@gpu_option
@click.option("--rung", default="auto", show_default=True, type=click.Choice(list(RUNGS)), help="Who answers.")
@click.option("--compare", is_flag=True, help="Show every rung that answers, side by side.")
@offline_option
@returns_result
def command(
    model: Path | str,
    mmproj: Path | str | None,
    gpu: str | None,
    rung: str,
    compare: bool,
    cache_bits: str | None,
    **settings: Any,
) -> Result:
    """Say what a model needs, on each device and on the host.

    Nothing is loaded: the answer comes from the runtime itself, asked with an empty copy of the model, from
    llama-cpp-python, loading without memory, or from the file's header by formula. Every figure carries its band and
    its source.

    MODEL is a file, or one that is somewhere else: hf:OWNER/REPO:QUANT, ollama:NAME:TAG, https://host/x.gguf. Of
    those the header alone is fetched, a few MiB. A folder of EXL2 or EXL3, or exl3:OWNER/REPO@REVISION, is answered
    for ExLlama under TabbyAPI: weights and cache from the headers, the rest estimated.

    \b
        qwenops need Qwen3VL-8B-Instruct-Q4_K_M.gguf --ctx 16384 --gpu "RTX 3060 12GB"
        qwenops need hf:unsloth/Qwen3-VL-8B-Instruct-GGUF:UD-Q4_K_XL
        qwenops need Qwen3VL-8B-Instruct-Q4_K_M.gguf --ctx 16384 --compare
        qwenops need Qwen3VL-8B-Instruct-F16.gguf --quant IQ4_XS --gpu 8GiB
        qwenops need exl3:OWNER/Qwen3-VL-8B-Instruct-exl3@4.0bpw --ctx 16384 --cache-bits 8
    """
    from qwenops.model.exl import is_exl

    if is_exl(model):
        from qwenops.setup.exl import exl_need_result

        given_only({"ctx", "ubatch", "image_tokens", "cache_bits", "gpu", "offline"}, "an EXL model")
        return exl_need_result(model, gpu=gpu, cache_bits=cache_bits, **of_exl(settings))
    given_only({p.name or "" for p in click.get_current_context().command.params} - {"cache_bits"}, "a GGUF model")
    from qwenops.setup.answers import compare_result, need_result

    if compare:
        if rung != "auto":
            raise BadInput("--compare asks every rung, --rung one", do="leave one of them out")
        return compare_result(model, mmproj, gpu=gpu, **settings)
    return need_result(model, mmproj, gpu=gpu, rung=RUNGS[rung], **settings)


def of_exl(settings: dict[str, Any]) -> dict[str, Any]:
    """What of the settings an EXL model is asked under; a chunk only where one was typed."""
    source = click.get_current_context().get_parameter_source("ubatch")
    ubatch = None if source is None or source.name == "DEFAULT" else settings["ubatch"]
    return {
        "ctx": settings["ctx"],
        "image_tokens": settings["image_tokens"],
        "offline": settings["offline"],
        "ubatch": ubatch,
    }
