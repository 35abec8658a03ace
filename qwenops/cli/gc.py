"""qwenops gc: take away what nobody needs."""

from __future__ import annotations

import click

from qwenops.cli.common import ask_before, returns_result
from qwenops.result import Result


@click.command("gc")
@click.option("--dry-run", is_flag=True, help="Say what would go and change nothing.")
@click.option("--downloads", is_flag=True, help="Also whole files in the hub's cache that only removed models used.")
@click.option(
    "--older-than",
    default=30,
    show_default=True,
    type=click.IntRange(0, 36500),
    metavar="DAYS",
    help="Headers, listings and kept references go when unused for so long.",
)
@click.option("--yes", is_flag=True, help="Do it without asking.")
@returns_result
def command(dry_run: bool, downloads: bool, older_than: int, yes: bool) -> Result:
    """Take away what nobody needs any more: links, ghosts, old headers, half downloads.

    Links and copies in Ollama's store that qwenops placed and no model names, what killed runs left behind, answers of
    a runtime that is gone, Modelfiles of removed models. Everything is shown with its reason and what the disk gets
    back, then you are asked. Never a blob that any manifest names, nor one that qwenops did not place; and nothing of
    a store while a pull or a registration is going on there.

    \b
        qwenops gc --dry-run
    """
    from qwenops.setup.gc import find_waste, gc_result

    found = find_waste(downloads=downloads, older_than_days=older_than)
    foretold = gc_result(found, dry_run=True)
    if dry_run:
        return foretold
    if found.things and not yes:
        ask_before(foretold, "Take this away?", "take it away")
    return gc_result(found, dry_run=False)
