"""qwenops import: the model of a lock file."""

from __future__ import annotations

from pathlib import Path

import click

from qwenops.cli.common import FILE, following, returns_result, say
from qwenops.result import Result


@click.command("import")
@click.argument("lock", type=FILE, metavar="FILE")
@click.option("--name", metavar="NAME", help="The name in Ollama.  [default: the lock's]")
@click.option("--from", "folder", type=FILE, metavar="FOLDER", help="A folder that may hold the files.")
@click.option("--replace", is_flag=True, help="Replace a model of that name that qwenops did not make.")
@click.option("--force", is_flag=True, help="Register it although it does not fit here.")
@click.option("--load/--no-load", default=True, help="Load and verify at the end.  [default: load]")
@click.option("--offline", is_flag=True, help="Only files that are on this machine.")
@click.option("--dry-run", is_flag=True, help="Say whether it fits and what would be fetched; change nothing.")
@returns_result
def command(
    lock: Path,
    name: str | None,
    folder: Path | None,
    replace: bool,
    force: bool,
    load: bool,
    offline: bool,
    dry_run: bool,
) -> Result:
    """Make the model of a lock file: the same files under the same settings.

    Files that are here with the lock's digest (Ollama's store, the hub's cache, --from) are used in place; the others
    come from the hub, and none that is another than the lock's is taken. First it is judged whether the model fits this
    machine: where it does not, nothing is fetched, and the exit code is 1.

    \b
        qwenops import eyes.lock.json
        qwenops import eyes.lock.json --from /media/usb --offline
    """
    from qwenops.setup.importing import ImportOptions, import_result

    options = ImportOptions(name, folder, replace, force, load, offline, dry_run)
    with following() as progress:
        return import_result(lock, options, say=say, progress=progress)
