"""qwenops doctor: what stands in the way."""

from __future__ import annotations

import click

from qwenops.cli.common import returns_result
from qwenops.result import Result


@click.command("doctor")
@returns_result
def command() -> Result:
    """Find what stands in the way, with evidence and the command that mends it.

    Looks at the driver, the server and its settings, the store and the registered models. Changes nothing.
    """
    from qwenops.setup.doctor import doctor_result

    return doctor_result()
