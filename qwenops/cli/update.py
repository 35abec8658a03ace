"""qwenops update: plan registered models again."""

from __future__ import annotations

import click

from qwenops.cli.common import ask_before, following, offline_option, returns_result, say
from qwenops.result import Result


@click.command("update")
@click.argument("names", nargs=-1)
@click.option("--for", "task", metavar="TASK", help="Another task than it was made for; for a model of another tool.")
@click.option("--load/--no-load", default=True, help="Load and verify at the end.  [default: load]")
@click.option("--dry-run", is_flag=True, help="Say what would change and change nothing.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@offline_option
@returns_result
def command(names: tuple[str, ...], task: str | None, load: bool, dry_run: bool, yes: bool, offline: bool) -> Result:
    """Plan registered models again: for a new card, runtime, file or task.

    For a new card, driver or Ollama, for new files in their repository, or for another task. What would change is
    shown, then you are asked. Without NAMES all models that qwenops planned; one that it did not plan takes --for and
    is planned on its own files, which stay where they are. What it was before is kept as a Modelfile.

    \b
        qwenops update --dry-run
        qwenops update llava:latest --for ocr
    """
    from qwenops.setup.update import UpdateOptions, look_ahead

    with following() as progress:
        updates = look_ahead(names, UpdateOptions(task, offline, load), progress=progress)
        foretold = updates.foretold()
        if dry_run or not updates.needed:
            return foretold
        if not yes:
            ask_before(foretold, "Do this?", "do it")
        return updates.carry_out(say=say, progress=progress)
