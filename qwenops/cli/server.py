"""qwenops server: the settings that no Modelfile can say."""

from __future__ import annotations

from pathlib import Path

import click

from qwenops.cli.common import FILE, returns_result
from qwenops.result import Result
from qwenops.runtime.server_files import FORMS


@click.group("server", invoke_without_command=False)
def command() -> None:
    """Show, plan, write and check the settings that no Modelfile can say.

    KV type, image cap, experts on the CPU, flash attention: one set for all models of a server.
    """


@command.command("show")
@returns_result
def show() -> Result:
    """Show every setting in force, and where it was read."""
    from qwenops.setup.server import server_show_result

    return server_show_result()


@command.command("plan")
@click.argument("names", nargs=-1)
@returns_result
def plan(names: tuple[str, ...]) -> Result:
    """Say which models stay loaded together, where each projector goes and which layers spill.

    By Ollama's own scheduling rule, asked for in the order given (all registered models without a name). Where not all
    of them stay whole, the settings under which more would are tried.
    """
    from qwenops.setup.server import server_plan_result

    return server_plan_result(names)


@command.command("write")
@click.argument("settings", nargs=-1, required=True, metavar="NAME=VALUE...")
@click.option("--as", "form", type=click.Choice(FORMS), help="The form.  [default: how this server runs]")
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Write the file here; nothing is applied.")
@returns_result
def write(settings: tuple[str, ...], form: str | None, output: Path | None) -> Result:
    """Write settings down for systemd, launchd, Windows, docker compose or a shell.

    Shows the file, the commands that apply it and those that take it back. Nothing is applied.

    \b
        qwenops server write OLLAMA_KV_CACHE_TYPE=q8_0 LLAMA_ARG_IMAGE_MAX_TOKENS=2048
    """
    from qwenops.setup.server import server_write_result

    return server_write_result(settings, form, output)


@command.command("check")
@click.argument("settings", nargs=-1, required=True, metavar="NAME=VALUE...")
@returns_result
def check(settings: tuple[str, ...]) -> Result:
    """Check that settings are in force on the running server."""
    from qwenops.setup.server import server_check_result

    return server_check_result(settings)
