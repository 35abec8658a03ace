"""qwenops check: the linter of Modelfiles."""

from __future__ import annotations

from pathlib import Path

import click

from qwenops.cli.common import returns_result
from qwenops.result import Result


@click.command("check")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@returns_result
def command(file: Path) -> Result:
    """Check a Modelfile before Ollama sees it.

    Finds unknown and deprecated words, a num_gpu that moves the projector to the CPU, a num_ctx too small for one
    image, a missing or mismatched projector, and values that a Modelfile cannot say.
    """
    from qwenops.setup.modelfiles import check_result

    return check_result(file)
