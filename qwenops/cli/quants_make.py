"""qwenops quants make: quants of a model that is here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import FILE, MODEL, following, offline_option, returns_result, say
from qwenops.result import Result


@click.command("make")
@click.argument("model", type=MODEL)
@click.argument("quants", nargs=-1, required=True, metavar="QUANT...")
@click.option("-o", "--output", "folder", type=FILE, metavar="FOLDER", help="Where to write.  [default: beside it]")
@click.option("--imatrix", type=FILE, metavar="FILE", help="Importance matrix; some quants need one.")
@click.option(
    "--tensor-type",
    "overrides",
    multiple=True,
    metavar="NAME=TYPE",
    help="Type of tensors whose name has NAME (a pattern), repeatable: ffn_down=q6_k.",
)
@click.option("--output-type", metavar="TYPE", help="Type of the output head.")
@click.option("--embedding-type", metavar="TYPE", help="Type of the token embedding.")
@click.option("--leave-output", is_flag=True, help="Leave the output head as it is.")
@click.option("--pure", is_flag=True, help="One type for all tensors, no mix.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: all]")
@click.option("--allow-requantize", is_flag=True, help="Take a source that is quantized: quality is lost twice.")
@click.option("--replace", is_flag=True, help="Overwrite files that are there.")
@click.option("--dry-run", is_flag=True, help="Say exact sizes and types, write nothing.")
@offline_option
@returns_result
def command(
    model: Path | str,
    quants: tuple[str, ...],
    folder: Path | None,
    imatrix: Path | None,
    overrides: tuple[str, ...],
    dry_run: bool,
    offline: bool,
    **options: Any,
) -> Result:
    """Make quants of a model that is here.

    By llama-cpp-python's quantizer, the one of llama-quantize. Sizes are known to the byte before and checked after;
    each file gets its name when it is whole. IQ1, IQ2, IQ3_XXS, IQ3_XS and Q2_K_S want an importance matrix: which of
    those that were asked for is said before anything is written.

    \b
        qwenops quants make Qwen3VL-8B-Instruct-F16.gguf Q4_K_M IQ4_XS Q5_K_M
        qwenops quants make m-BF16.gguf IQ2_M --imatrix m.imatrix.gguf --dry-run
    """
    from qwenops.setup.make_quants import MakeOptions, make_result
    from qwenops.units import human

    def cost(total_bytes: int, free_bytes: int, where: Path) -> None:
        say(f"{human(total_bytes)} will be written to {where}, {human(free_bytes)} free")

    with following() as follow:
        return make_result(
            model,
            quants,
            MakeOptions(overrides=tuple(_override(one) for one in overrides), **options),
            imatrix=imatrix,
            folder=folder,
            dry_run=dry_run,
            offline=offline,
            on_tensor=lambda quant, done, of: follow.line(f"{quant}  tensor {done} of {of}"),
            on_cost=cost,
        )


def _override(text: str) -> tuple[str, str]:
    name, sign, type_ = text.rpartition("=")
    if not (sign and name and type_):
        raise click.UsageError(f"--tensor-type wants NAME=TYPE, and has {text!r}")
    return name, type_
