"""qwenops show: one model in full."""

from __future__ import annotations

import click

from qwenops.cli.common import following, returns_result
from qwenops.result import Result


@click.command("show")
@click.argument("name")
@returns_result
def command(name: str) -> Result:
    """Show one model: settings, files, links."""
    from qwenops.setup.listing import show_result

    with following() as progress:
        return show_result(name, progress)
