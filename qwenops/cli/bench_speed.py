"""qwenops bench speed: prompt and generation speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import (
    MODEL,
    cache_options,
    gpu_layers_option,
    offline_option,
    returns_result,
    say,
    threads_option,
    ubatch_option,
)
from qwenops.result import Result


@click.command("speed")
@click.argument("models", nargs=-1, required=True, type=MODEL)
@click.option(
    "--prompt",
    multiple=True,
    type=click.IntRange(0),
    metavar="N",
    help="Prompt sizes, repeatable; 0 for none.  [default: 512]",
)
@click.option(
    "--generate",
    multiple=True,
    type=click.IntRange(0),
    metavar="N",
    help="Generation lengths, repeatable.  [default: 128]",
)
@click.option(
    "--depth",
    multiple=True,
    type=click.IntRange(0),
    metavar="N",
    help="Tokens already in the cache, repeatable.  [default: 0]",
)
@click.option(
    "--repetitions",
    default=5,
    show_default=True,
    type=click.IntRange(1, 1000),
    metavar="N",
    help="How often each test runs.",
)
@threads_option
@click.option("--batch", default=2048, show_default=True, type=click.IntRange(1), metavar="N", help="Logical batch.")
@ubatch_option
@cache_options
@gpu_layers_option
@offline_option
@returns_result
def command(models: tuple[Path | str, ...], **options: Any) -> Result:
    """Measure prompt and generation speed of one or more variants.

    Every model runs in a process of its own through llama-cpp-python, with the loops and the defaults of llama-bench,
    so the figures can be held against its. Rows are kept in the history.

    \b
        qwenops bench speed ./Qwen3-VL-8B/ --prompt 512 --generate 128 --depth 0 --depth 4096
    """
    from qwenops.setup.measure import bench_result

    def heard(quant: str, test: str, tokens_per_second: float) -> None:
        say(f"{quant}  {test}  {tokens_per_second:.1f} t/s")

    return bench_result(models, on_sample=heard, **options)
