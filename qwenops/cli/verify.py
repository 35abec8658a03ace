"""qwenops verify: the proof by loading."""

from __future__ import annotations

import click

from qwenops.cli.common import following, returns_result, say
from qwenops.result import Result


@click.command("verify")
@click.argument("name")
@click.option("--alone", is_flag=True, help="Unload other models first.")
@click.option("--look/--no-look", default=None, help="Show it a picture.  [default: when it has a projector]")
@returns_result
def command(name: str, alone: bool, look: bool | None) -> Result:
    """Load a registered model and hold the plan against what is measured.

    Checks layers, projector, context and memory by component, and that a picture is really taken. The exit code is 1
    when something is not as planned. Predicted beside measured goes into the history.
    """
    from qwenops.setup.up import verify_result

    with following() as progress:
        return verify_result(name, alone=alone, look=look, say=say, progress=progress)
