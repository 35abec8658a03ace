"""qwenops connect: what a client of Ollama must be told."""

from __future__ import annotations

import click

from qwenops.cli.common import returns_result
from qwenops.result import Result

CLIENTS = ("paperless-gpt", "open-webui", "openai", "n8n")


@click.command("connect")
@click.argument("client", type=click.Choice(CLIENTS), metavar="CLIENT")
@click.argument("name", required=False)
@click.option(
    "--in", "place", type=click.Choice(["host", "docker"]), help="Where the client runs.  [default: as it usually does]"
)
@returns_result
def command(client: str, name: str | None, place: str | None) -> Result:
    """Print the settings that a client needs, and what it cannot set.

    CLIENT is paperless-gpt, open-webui, n8n, or openai for whatever speaks that API; NAME is a registered model, which
    may be left out where only one takes pictures. Nothing is changed; the exit code is 1 where the client cannot reach
    the server from where it runs.

    \b
        qwenops connect paperless-gpt qwen3-vl-8b-instruct-ocr
        qwenops connect openai qwen3-vl-8b-instruct-ocr --in docker
    """
    from qwenops.setup.connect import connect_result

    return connect_result(client, name, place=place)  # type: ignore[arg-type]
