"""qwenops image run: make the picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from qwenops.cli.common import FILE, following, returns_result, say, threads_option
from qwenops.cli.image_settings import picture_options
from qwenops.result import Result


@click.command("run")
@click.argument("model")
@click.option("--prompt", "-p", metavar="TEXT", help="What to paint.")
@click.option("--prompt-file", type=FILE, metavar="FILE", help="The prompt from a file.")
@click.option("--diffusion", type=FILE, metavar="FILE", help="The diffusion model's GGUF.")
@click.option("--encoder", type=FILE, metavar="FILE", help="The text encoder.  [default: beside the model]")
@click.option("--projector", type=FILE, metavar="FILE", help="The encoder's mmproj, for edits.")
@click.option("--vae", type=FILE, metavar="FILE", help="The VAE.  [default: beside the model]")
@picture_options
@click.option(
    "--reference", "references", multiple=True, type=FILE, metavar="FILE", help="A picture to edit, repeatable."
)
@click.option("--start", type=FILE, metavar="FILE", help="A picture to begin from (image to image).")
@click.option("--strength", default=0.75, show_default=True, type=click.FloatRange(0, 1), help="How much of it goes.")
@click.option("--lora", "loras", multiple=True, metavar="FILE[:WEIGHT]", help="A LoRA, repeatable.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), metavar="N", help="The seed.  [default: a new one]")
@click.option(
    "--batch", default=1, show_default=True, type=click.IntRange(1, 64), metavar="N", help="How many pictures."
)
@click.option("--out", type=FILE, metavar="FILE", help="Where it goes.  [default: MODEL-SEED.png]")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.option(
    "--way",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "gpu", "offload", "stream", "cpu"]),
    help="Where the weights are.",
)
@click.option("--vae-tiling", is_flag=True, help="Decode in tiles: far less memory.")
@click.option("--encoder-on-cpu", is_flag=True, help="Read the prompt on the CPU.")
@click.option("--no-flash", is_flag=True, help="Without flash attention in the diffusion model.")
@threads_option
@click.option("--dry-run", is_flag=True, help="Print the equal sd-cli command and the plan; make nothing.")
@returns_result
def run(
    model: str,
    prompt: str | None,
    prompt_file: Path | None,
    diffusion: Path | None,
    encoder: Path | None,
    projector: Path | None,
    vae: Path | None,
    no_flash: bool,
    **wish: Any,
) -> Result:
    """Make pictures with stable-diffusion.cpp, with every setting kept inside the PNG.

    Parts that are not named are looked for beside the diffusion model. Ctrl-C ends it at once and leaves no half
    picture. Memory is shown beside the plan, and seconds a step are kept in the history.

    \b
        qwenops image run 2512 --diffusion qwen-image-2512-Q4_K_M.gguf -p 'A cafe. The sign reads "OPEN".'
        qwenops image run edit-2511 --diffusion M.gguf --reference photo.png -p 'Make it night' --dry-run
    """
    from qwenops.setup.image_run import run_result

    given = {"diffusion": diffusion, "encoder": encoder, "projector": projector, "vae": vae}
    with following() as follower:

        def heard(event: Mapping[str, Any]) -> None:
            if event["event"] == "stage":
                say(_SAID[event["name"]])
            elif event["event"] == "step":
                left = (event["steps"] - event["step"]) * event["seconds"]
                follower.line(
                    f"step {event['step']} of {event['steps']}, {event['seconds']:.1f} s each, {left:.0f} s left"
                )

        return run_result(
            model,
            prompt=_words(prompt, prompt_file),
            given=given,  # type: ignore[arg-type]
            flash=not no_flash,
            on_event=heard,
            on_digest=follower,
            **wish,
        )


_SAID = {
    "load": "loading the model",
    "references": "encoding the pictures",
    "encode": "reading the prompt",
    "step": "painting",
    "decode": "decoding the picture",
}


def _words(prompt: str | None, file: Path | None) -> str:
    if (prompt is None) == (file is None):
        raise click.UsageError("Give the prompt once: --prompt TEXT or --prompt-file FILE.")
    if file is None:
        return prompt or ""
    from qwenops.errors import BadInput

    try:
        if file.stat().st_size > 1 << 20:
            raise BadInput(
                f"{file} has {file.stat().st_size} bytes; the models read at most 1024 tokens", do="a shorter one"
            )
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read as text ({error})", do="give a UTF-8 text file") from None
