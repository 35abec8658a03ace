"""qwenops export: a model as a lock file."""

from __future__ import annotations

from pathlib import Path

import click

from qwenops.cli.common import FILE, returns_result
from qwenops.result import Result


@click.command("export")
@click.argument("name")
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Where to write it.  [default: NAME.lock.json]")
@returns_result
def command(name: str, output: Path | None) -> Result:
    """Write a model down as a lock file, from which another machine gets the same one.

    It holds the digests of the weights and of the projector, repository and commit where the hub has them, the
    Modelfile and the plan; no weights, and no path of this machine.

    \b
        qwenops export eyes -o eyes.lock.json
    """
    from qwenops.setup.exporting import export_result

    return export_result(name, output)
