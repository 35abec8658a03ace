"""qwenops image: pictures by Qwen-Image, from the settings to the finished file."""

from __future__ import annotations

import click

from qwenops.cli import image_bench, image_plan, image_prompt, image_run, image_settings, image_text


@click.group("image")
def command() -> None:
    """Plan and make pictures with Qwen-Image, with settings whose sources are known.

    \b
        qwenops image plan qwen-image-2512 --gpu "RTX 3060 12GB"
        qwenops image run 2512 --diffusion qwen-image-2512-Q4_K_M.gguf -p 'A cafe. The sign reads "OPEN".'
        qwenops image settings qwen-image-2512 --size 16:9
        qwenops image compare
        qwenops image prompt check 'A cafe. The sign above the door reads "OPEN".'
    """


command.add_command(image_plan.plan)
command.add_command(image_run.run)
command.add_command(image_bench.bench)
command.add_command(image_settings.settings)
command.add_command(image_settings.compare)
command.add_command(image_prompt.prompt)
command.add_command(image_text.text_check)
