"""qwenops list: what is in the store."""

from __future__ import annotations

import click

from qwenops.cli.common import following, returns_result
from qwenops.result import Result


@click.command("list")
@returns_result
def command() -> Result:
    """List the models in the store, and whether their files are still true.

    A linked file that was overwritten or taken away is named; the exit code is 1 then.
    """
    from qwenops.setup.listing import list_result

    with following() as progress:
        return list_result(progress)
