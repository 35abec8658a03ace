"""qwenops image plan: what a picture takes, and how to run the model on this card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from qwenops.cli.common import MODEL, gpu_option, offline_option, returns_result
from qwenops.result import Result

F = TypeVar("F", bound=Callable[..., Any])


def part_options(function: F) -> F:
    """The files of a model, where they are not to be taken from what was published."""
    options = [
        click.option(
            "--diffusion", type=MODEL, metavar="FILE", help="The diffusion model's GGUF: a file or hf:REPO:QUANT."
        ),
        click.option(
            "--encoder", type=MODEL, metavar="FILE", help="The text encoder: GGUF or safetensors, or hf:REPO:QUANT."
        ),
        click.option(
            "--projector", type=MODEL, metavar="FILE", help="The encoder's mmproj, for edits with references."
        ),
        click.option("--vae", type=MODEL, metavar="FILE", help="The VAE: safetensors or GGUF."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.command("plan")
@click.argument("model")
@gpu_option
@click.option("--size", metavar="SIZE", help="A ratio (16:9) or pixels (1664x928).  [default: as its makers]")
@click.option("--quant", metavar="NAME", help="Only this published quant.")
@part_options
@click.option(
    "--reference", "references", multiple=True, metavar="SIZE", help="Size of a reference picture, repeatable."
)
@click.option("--lightning", "lightning_steps", type=click.IntRange(1), metavar="STEPS", help="With a Lightning LoRA.")
@click.option("--cfg", "true_cfg_scale", type=click.FloatRange(0, 100), metavar="X", help="true_cfg_scale.")
@click.option("--prompt-tokens", type=click.IntRange(1, 1024), metavar="N", help="Longest prompt.  [default: 512]")
@click.option("--no-flash", is_flag=True, help="Without flash attention in the diffusion model.")
@click.option("--headroom", metavar="SIZE", help="Keep this much free on the device.  [default: 64 MiB]")
@offline_option
@returns_result
def plan(
    model: str,
    diffusion: Path | str | None,
    encoder: Path | str | None,
    projector: Path | str | None,
    vae: Path | str | None,
    no_flash: bool,
    **wish: Any,
) -> Result:
    """Say what a picture takes, stage by stage, and the best way to run the model on this card.

    The buffers are those that stable-diffusion.cpp would allocate: its graphs are replayed tensor by tensor. Parts are
    read from files or from headers on the hub; what is not given is taken as it was published.

    \b
        qwenops image plan qwen-image-2512 --gpu "RTX 3060 12GB" --size 16:9
        qwenops image plan qwen-image-edit-2511 --quant Q4_K_M --reference 1024x1024
        qwenops image plan 2512 --diffusion hf:unsloth/Qwen-Image-2512-GGUF:Q3_K_M
    """
    from qwenops.setup.image_plan import plan_result

    given = {"diffusion": diffusion, "encoder": encoder, "projector": projector, "vae": vae}
    return plan_result(model, given=given, flash=not no_flash, **wish)  # type: ignore[arg-type]
