"""Groups that were one command once: what it meant is still meant where no part is named."""

from __future__ import annotations

import difflib
import re
from typing import Any

import click


class PartsGroup(click.Group):
    """The parts by name; what stands in a part's place is for `meant`, which is all that the command once was.

    With `alone` the name of the group by itself is that part too, where others show their help.
    """

    def __init__(self, *args: Any, meant: str = "", alone: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.meant = meant
        self.alone = alone

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the part in that is meant; a model of a part's name is given as ./NAME."""
        own = {name for param in self.get_params(ctx) for name in param.opts}
        if not args and self.alone and not ctx.resilient_parsing:
            args = [self.meant]
        if args and args[0] not in self.commands and args[0] not in own:
            self._check_near(ctx, args[0])
            args = [self.meant, *args]
        return super().parse_args(ctx, args)

    def _check_near(self, ctx: click.Context, word: str) -> None:
        """A word that is near a part's name was meant as one."""
        if not re.fullmatch("[a-z]+", word):
            return
        near = difflib.get_close_matches(word, self.commands, n=1, cutoff=0.75)
        if near:
            raise click.UsageError(f"No such command '{word}'. Did you mean '{near[0]}'?", ctx)
