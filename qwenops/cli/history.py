"""qwenops history: what was learned here."""

from __future__ import annotations

import click

from qwenops.cli.common import returns_result
from qwenops.result import Result


@click.command("history")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), metavar="N", help="Rows of each sort.")
@returns_result
def command(limit: int) -> Result:
    """Show what was planned, loaded and measured here.

    qwenops history --json | jq '.loads[0]'
    """
    from qwenops.setup.measure import history_result

    return history_result(limit=limit)
