"""qwenops machine: what is there."""

from __future__ import annotations

import click

from qwenops.cli.common import gpu_option, returns_result
from qwenops.result import Result


@click.command("machine")
@gpu_option
@returns_result
def command(gpu: str | None) -> Result:
    """Show devices, memory and the runtime that were found.

    qwenops machine --gpu "RTX 4060 8GB"
    """
    from qwenops.setup.answers import machine_result

    return machine_result(gpu)
