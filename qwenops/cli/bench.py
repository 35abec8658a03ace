"""qwenops bench: what variants are worth, by what is asked of them."""

from __future__ import annotations

import click

from qwenops.cli import bench_ocr, bench_quality, bench_speed, bench_vision
from qwenops.cli.parts import PartsGroup


@click.group("bench", cls=PartsGroup, meant="speed", subcommand_metavar="PART MODEL...")
def command() -> None:
    """Measure what variants are worth: speed, quality against a reference, what they read and see.

    \b
        qwenops bench speed ./Qwen3-VL-8B/ --prompt 512 --generate 128
        qwenops bench quality --reference m-Q8_0.gguf m-Q4_K_M.gguf m-IQ4_XS.gguf
        qwenops bench ocr ./Qwen3-VL-8B/ --pages 84
        qwenops bench vision ./Qwen3-VL-8B/
    """


command.add_command(bench_speed.command)
command.add_command(bench_quality.command)
command.add_command(bench_ocr.command)
command.add_command(bench_vision.command)
