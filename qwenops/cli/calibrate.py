"""qwenops calibrate: learn what a load takes beyond its buffers."""

from __future__ import annotations

import sys

import click

from qwenops.cli.common import following, returns_result, say
from qwenops.result import Result


@click.command("calibrate")
@click.option("--device", "devices", multiple=True, metavar="NAME", help="Only this device; may be given again.")
@click.option("--yes", is_flag=True, help="Go on while other models are loaded, without asking.")
@returns_result
def command(devices: tuple[str, ...], yes: bool) -> Result:
    """Load three small models and learn what a device holds beyond their buffers.

    They are made here, of zeros (about 105 MiB), loaded one after the other through Ollama under names of their own,
    and removed again, also when it is stopped. What the driver counts before and after goes into the history, and
    with it how far each rung was off. From then on it replaces the stated default, for this device, driver and
    runtime. Your models are not touched.
    """
    from qwenops.setup.calibrate import calibrate_result

    def ask(question: str) -> bool:
        return yes or (sys.stdin.isatty() and click.confirm(question, err=True))

    with following() as progress:
        return calibrate_result(devices, ask=ask, say=say, progress=progress)
