"""qwenops register: hand a Modelfile over to Ollama."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import following, returns_result
from qwenops.result import Result


@click.command("register")
@click.argument("name")
@click.option(
    "-f",
    "--file",
    "modelfile",
    default="Modelfile",
    show_default=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The Modelfile.",
)
@click.option(
    "--via",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "store", "api"]),
    help="By link into the store, or by upload.",
)
@click.option("--copy", is_flag=True, help="Copy the weights into the store instead of linking them.")
@click.option("--replace", is_flag=True, help="Replace a model of that name that qwenops did not make.")
@click.option("--no-check", "lint", flag_value=False, default=True, help="Register although the linter found errors.")
@click.option("--dry-run", is_flag=True, help="Say what would happen and change nothing.")
@returns_result
def command(name: str, modelfile: Path, **options: Any) -> Result:
    """Register a Modelfile with Ollama, by link where that is possible.

    The weights stay where they are: the store gets a reflink or a hard link to them, so no disk is used and a large
    model takes seconds.

    \b
        qwenops register scan -f Modelfile
    """
    from qwenops.setup.registering import register_result

    with following() as progress:
        return register_result(name, modelfile, progress=progress, **options)
