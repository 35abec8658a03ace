"""qwenops up: everything in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import FILE, MODEL, following, model_options, offline_option, returns_result, say, task_options
from qwenops.result import Result

OPTIONS = (
    "name",
    "task",
    "mode",
    "system",
    "template",
    "via",
    "copy",
    "join",
    "replace",
    "alone",
    "load",
    "again",
    "dry_run",
)


@click.command("up")
@click.argument("models", nargs=-1, required=True, type=MODEL)
@model_options
@click.option("--name", metavar="NAME", help="The name in Ollama.  [default: the model's own and the task]")
@task_options
@click.option(
    "--mode", type=click.Choice(["instruct", "thinking"]), help="Sampling of the other mode of a model that has two."
)
@click.option("--system", metavar="TEXT", help="A system prompt of your own.")
@click.option("--template", type=FILE, metavar="FILE", help="A Jinja template of your own.")
@click.option(
    "--via",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "store", "api", "pull"]),
    help="By link into the store, by upload, or by Ollama's own pull from its library.",
)
@click.option("--copy", is_flag=True, help="Copy the weights into the store instead of linking them.")
@click.option("--join", is_flag=True, help="Join the shards of a split model into one file, which Ollama needs.")
@click.option("--replace", is_flag=True, help="Replace a model of that name that qwenops did not make.")
@click.option("--alone", is_flag=True, help="Unload other models before the proof.")
@click.option("--load/--no-load", default=True, help="Load and verify at the end.  [default: load]")
@click.option("--again", is_flag=True, help="Verify again although nothing changed.")
@click.option("--dry-run", is_flag=True, help="Plan and write the Modelfile, change nothing.")
@offline_option
@click.option("--yes", is_flag=True, help="Never ask.")
@returns_result
def command(models: tuple[Path | str, ...], mmproj: Path | str | None, yes: bool, **options: Any) -> Result:
    """Set a model up: plan, register without a copy, load, verify.

    MODELS are the variants of one model: a file, several, a folder, a name of the catalogue, or a repository. Of what
    is not here only the best variant that fits is downloaded, into the hub's own cache. It is registered with Ollama by
    a link, loaded, and what it takes is held against the plan. Run again it changes nothing. ollama:NAME is a model
    that Ollama has already, whose files the new one shares; one of its registry is pulled by the server first.

    \b
        qwenops up qwen3-vl:8b --for ocr
        qwenops up Qwen3VL-8B-Instruct-Q4_K_M.gguf --for ocr
        qwenops up ./Qwen3-VL-8B/ --for chat --name eyes --dry-run
        qwenops up ollama:qwen3-vl:8b --for ocr
    """
    from qwenops.setup.up import UpOptions, up_result

    asked = {name: options.pop(name) for name in OPTIONS}
    with following() as progress:
        return up_result(models, mmproj, UpOptions(**asked, pins=options), say=say, progress=progress)
