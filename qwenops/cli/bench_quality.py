"""qwenops bench quality: what variants and KV types lose against a reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import (
    FILE,
    MODEL,
    flash_attn_option,
    following,
    gpu_layers_option,
    offline_option,
    returns_result,
    say,
    threads_option,
    time_left,
    ubatch_option,
)
from qwenops.memory.types import KV_TYPES, KVType
from qwenops.result import Result


@click.command("quality")
@click.argument("models", nargs=-1, type=MODEL)
@click.option(
    "--reference", required=True, type=MODEL, metavar="R", help="What to hold them against: F16, BF16 or Q8_0."
)
@click.option("--text", type=FILE, metavar="FILE", help="What to read, UTF-8.  [default: a text that comes along]")
@click.option("--ctx", default=512, show_default=True, type=click.IntRange(16), metavar="N", help="Window in tokens.")
@click.option(
    "--chunks",
    default=32,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="How many windows to read; more make errors smaller.",
)
@click.option(
    "--kv-type",
    "kv_types",
    multiple=True,
    type=click.Choice(KV_TYPES),
    metavar="TYPE",
    help="KV type of the variants, repeatable; the reference's is f16.  [default: f16]",
)
@threads_option
@click.option(
    "--batch",
    default=2048,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Tokens decoded at once: several windows.",
)
@ubatch_option
@flash_attn_option
@gpu_layers_option
@offline_option
@returns_result
def command(
    models: tuple[Path | str, ...],
    reference: Path | str,
    text: Path | None,
    kv_types: tuple[KVType, ...],
    offline: bool,
    **options: Any,
) -> Result:
    """Measure what variants and KV types lose against a reference.

    Perplexity, KL divergence and the share of same top tokens over a text, by the formulas of llama-perplexity. What
    the reference says of every token is kept on the disk, up to 2 bytes a token of the vocabulary for each of ctx/2
    tokens a chunk, and used again; how much is said before. A run that is stopped or killed goes on where it was.

    Without MODEL, the reference's own KV types are compared.

    \b
        qwenops bench quality --reference m-Q8_0.gguf m-Q4_K_M.gguf m-IQ4_XS.gguf
        qwenops bench quality --reference m-Q8_0.gguf --kv-type q8_0 --kv-type q4_0
    """
    from qwenops.bench.quality.types import QualitySettings
    from qwenops.setup.quality import quality_result
    from qwenops.units import human

    def cost(most_bytes: int, free_bytes: int, folder: str) -> None:
        say(f"the reference is kept in {folder}: {human(most_bytes)} at most, {human(free_bytes)} free")

    with following() as follow:

        def chunks(what: str, done: int, of: int, left_s: float) -> None:
            follow.line(f"{what}  chunk {done} of {of}  {time_left(left_s)} left")

        return quality_result(
            models,
            reference,
            QualitySettings(**options),
            text=text,
            kv_types=kv_types,
            offline=offline,
            on_chunks=chunks,
            on_cost=cost,
            progress=follow,
        )
