"""qwenops models: the catalogue."""

from __future__ import annotations

import click

from qwenops.cli.common import gpu_option, returns_result
from qwenops.result import Result


@click.command("models")
@click.argument("query", nargs=-1)
@gpu_option
@returns_result
def command(query: tuple[str, ...], gpu: str | None) -> Result:
    """List the Qwen vision models that can be named, with what of each fits.

    QUERY narrows the list: words of a name, a licence, a repository. One model alone is shown in full, with where its
    files are and the source of every fact. Nothing is asked over the network. Your own entries go into catalog.toml in
    the configuration folder (docs/catalogue.md).

    \b
        qwenops models qwen3-vl --gpu "RTX 3060 12GB"
    """
    from qwenops.setup.catalogue import models_result

    return models_result(query, gpu=gpu)
