"""qwenops uninstall: take back what was made."""

from __future__ import annotations

import click

from qwenops.cli.common import returns_result
from qwenops.result import Result


@click.command("uninstall")
@click.option("--yes", is_flag=True, help="Do it; without it, only what would go is shown.")
@click.option("--keep-models", is_flag=True, help="Leave the registered models in Ollama.")
@returns_result
def command(yes: bool, keep_models: bool) -> Result:
    """Remove what qwenops made, and say what stays.

    Its models in Ollama, its Modelfiles, history, caches and settings. Your own model files are never touched.
    """
    from qwenops.setup.uninstall import uninstall_result

    return uninstall_result(yes=yes, keep_models=keep_models)
