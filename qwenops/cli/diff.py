"""qwenops diff: two models side by side."""

from __future__ import annotations

import click

from qwenops.cli.common import following, returns_result
from qwenops.result import Result


@click.command("diff")
@click.argument("first")
@click.argument("second")
@returns_result
def command(first: str, second: str) -> Result:
    """What two models or Modelfiles differ in: files, settings, memory.

    Files by their digests, quant, template and system text, parameters, and what each will need on this machine by
    formula. The exit code is 1 where they differ.

    \b
        qwenops diff qwen3-vl-8b-ocr qwen3-vl-8b-chat
        qwenops diff qwen3-vl-8b-ocr ./Modelfile
    """
    from qwenops.setup.diff import diff_result

    with following() as progress:
        return diff_result(first, second, progress=progress)
