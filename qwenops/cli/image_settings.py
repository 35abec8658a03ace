"""qwenops image settings and qwenops image compare: published values, each with its source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from qwenops.cli.common import returns_result
from qwenops.result import Result

F = TypeVar("F", bound=Callable[..., Any])


def picture_options(function: F) -> F:
    """What may be said of a picture; what has no effect is taken too, so that the reason can be told."""
    options = [
        click.option("--size", metavar="SIZE", help="A ratio (16:9) or pixels (1664x928).  [default: as its makers]"),
        click.option("--preset", type=click.Choice(["portrait", "text"]), help="Documented values for people or text."),
        click.option(
            "--lightning", "lightning_steps", type=click.IntRange(1), metavar="STEPS", help="A Lightning LoRA."
        ),
        click.option("--steps", type=click.IntRange(1, 1000), metavar="N", help="Denoising steps."),
        click.option("--cfg", "true_cfg_scale", type=click.FloatRange(0, 100), metavar="X", help="true_cfg_scale."),
        click.option("--negative", "negative_prompt", metavar="TEXT", help="What is not wanted."),
        click.option("--flow-shift", type=click.FloatRange(0, 100), metavar="X", help="Shift of the schedule."),
        click.option("--sampler", metavar="NAME", help="The sampler.  [default: euler]"),
        click.option("--scheduler", metavar="NAME", hidden=True),
        click.option("--guidance-scale", type=float, hidden=True),
        click.option("--temperature", type=float, hidden=True),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.command("settings")
@click.argument("model")
@picture_options
@returns_result
def settings(model: str, **wish: Any) -> Result:
    """Show a model's official settings, or those of a preset, with their sources.

    Sides must be multiples of 16 (32 for 2.1). What has no effect on these models (guidance_scale, a temperature,
    Karras sigmas) is refused with the reason.

    \b
        qwenops image settings qwen-image-2512 --size 16:9
        qwenops image settings qwen-image-2512 --preset portrait
        qwenops image settings qwen-image --lightning 4
    """
    from qwenops.setup.image_settings import settings_result

    return settings_result(model, **wish)


@click.command("compare")
@click.argument("models", nargs=-1)
@returns_result
def compare(models: tuple[str, ...]) -> Result:
    """Put models that make pictures side by side: licence, size, steps, text in pictures, and the sources.

    Without names: Qwen-Image and its successors, the Edit models, FLUX.1 dev and schnell, FLUX.2. What nobody has
    published says unknown.
    """
    from qwenops.setup.image_settings import compare_result

    return compare_result(models)
