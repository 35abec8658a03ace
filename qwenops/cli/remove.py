"""qwenops remove: take models away."""

from __future__ import annotations

import click

from qwenops.cli.common import returns_result
from qwenops.result import Result


@click.command("remove")
@click.argument("names", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Say what would happen and change nothing.")
@returns_result
def command(names: tuple[str, ...], dry_run: bool) -> Result:
    """Remove models from Ollama; your own files stay.

    Blobs that other models use stay as well. A linked original keeps its data: only the store's name for it goes.
    """
    from qwenops.setup.registering import remove_result

    return remove_result(names, dry_run=dry_run)
