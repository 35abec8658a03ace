"""qwenops quants: what could be made of a model, and making it."""

from __future__ import annotations

import click

from qwenops.cli import quants_list, quants_make
from qwenops.cli.parts import PartsGroup


@click.group("quants", cls=PartsGroup, meant="list", subcommand_metavar="PART MODEL...")
def command() -> None:
    """Show every quant that could be made of a model, and make some.

    \b
        qwenops quants list Qwen3VL-8B-Instruct-F16.gguf --gpu "RTX 3060 12GB"
        qwenops quants make Qwen3VL-8B-Instruct-F16.gguf Q4_K_M IQ4_XS
    """


command.add_command(quants_list.command)
command.add_command(quants_make.command)
