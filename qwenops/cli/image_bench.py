"""qwenops image bench: what quants of one model are worth, at the same seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import FILE, following, returns_result, say, threads_option
from qwenops.result import Result


@click.command("bench")
@click.argument("model")
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option(
    "--reference", required=True, type=FILE, metavar="FILE", help="The file that the others are held against."
)
@click.option("--prompt", "-p", required=True, metavar="TEXT", help="What to paint.")
@click.option("--encoder", type=FILE, metavar="FILE", help="The text encoder.  [default: beside each file]")
@click.option("--vae", type=FILE, metavar="FILE", help="The VAE.  [default: beside each file]")
@click.option("--size", metavar="SIZE", help="A ratio (16:9) or pixels (1664x928).  [default: as its makers]")
@click.option("--steps", type=click.IntRange(1, 1000), metavar="N", help="Denoising steps.")
@click.option("--cfg", "true_cfg_scale", type=click.FloatRange(0, 100), metavar="X", help="true_cfg_scale.")
@click.option(
    "--seed", default=1, show_default=True, type=click.IntRange(0, 2**31 - 65), metavar="N", help="The first seed."
)
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1, 64), metavar="N", help="How many seeds.")
@click.option("--keep", type=FILE, metavar="FOLDER", help="Keep the pictures there.")
@click.option("--vae-tiling", is_flag=True, help="Decode in tiles.")
@threads_option
@returns_result
def bench(model: str, files: tuple[Path, ...], encoder: Path | None, vae: Path | None, **options: Any) -> Result:
    """Measure quants of one model: seconds a step, memory, and how near their pictures are to the reference's.

    Every file paints the same prompt at the same seeds; PSNR and SSIM say how far its pictures are from those of the
    reference. Rows are kept in the history.

    \b
        qwenops image bench 2512 qwen-image-2512-Q*.gguf --reference qwen-image-2512-Q8_0.gguf -p 'A red fox' --seeds 4
    """
    from qwenops.setup.image_bench import image_bench_result

    with following() as follower:

        def heard(event: Mapping[str, Any]) -> None:
            if event["event"] == "step":
                follower.line(f"step {event['step']} of {event['steps']}, {event['seconds']:.1f} s each")

        given = {"encoder": encoder, "vae": vae}
        return image_bench_result(model, files, given=given, on_variant=say, on_event=heard, **options)  # type: ignore[arg-type]
