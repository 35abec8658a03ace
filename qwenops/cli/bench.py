"""qwenops bench: what variants are worth, by what is asked of them."""

from __future__ import annotations

import click

from qwenops.cli import bench_quality, bench_speed


class BenchGroup(click.Group):
    """The parts by name; a model in a part's place is for `speed`, which is all that bench once was."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `speed` in where no part is named; a model of a part's name is given as ./speed."""
        own = {name for param in self.get_params(ctx) for name in param.opts}
        if args and args[0] not in self.commands and args[0] not in own:
            self._check_near(ctx, args[0])
            args = ["speed", *args]
        return super().parse_args(ctx, args)

    def _check_near(self, ctx: click.Context, word: str) -> None:
        """A word that is near a part's name was meant as one."""
        import difflib
        import re

        if not re.fullmatch("[a-z]+", word):
            return
        near = difflib.get_close_matches(word, self.commands, n=1, cutoff=0.75)
        if near:
            raise click.UsageError(f"No such command '{word}'. Did you mean '{near[0]}'?", ctx)


@click.group("bench", cls=BenchGroup, subcommand_metavar="PART MODEL...")
def command() -> None:
    """Measure what variants are worth: speed, and quality against a reference.

    \b
        qwenops bench speed ./Qwen3-VL-8B/ --prompt 512 --generate 128
        qwenops bench quality --reference m-Q8_0.gguf m-Q4_K_M.gguf m-IQ4_XS.gguf
    """


command.add_command(bench_speed.command)
command.add_command(bench_quality.command)
