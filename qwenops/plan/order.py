"""Which of two ways to run a model is the better one: a lexicographic order that each task states in profiles.toml."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from qwenops.plan.profile import Profile
from qwenops.plan.types import Choice

USUAL_UBATCH: Final = 512

Merit = tuple[tuple[float, ...], ...]


def _weights(choice: Choice, _: Profile) -> tuple[float, ...]:
    from qwenops.model.quants import quality_rank

    return quality_rank(choice.model.quant), choice.model.file_bytes


# what a name of `prefer` looks at; more is better
_LOOKS_AT: Final[dict[str, Callable[[Choice, Profile], tuple[float, ...]]]] = {
    "weights": _weights,
    "usual_ubatch": lambda choice, _: (min(choice.settings.ubatch, USUAL_UBATCH),),
    "context": lambda choice, task: (min(choice.settings.num_ctx, task.context_goal),),
    "ubatch": lambda choice, _: (choice.settings.ubatch,),
}


def merit(choice: Choice, task: Profile) -> Merit:
    """How good a choice is for a task, to be compared: of two that fit the greater is taken."""
    return tuple(_LOOKS_AT[name](choice, task) for name in task.prefer)


def decisive(better: Choice, other: Choice, task: Profile) -> str:
    """By which name of `prefer` one choice is ahead of another; empty where none tells them apart."""
    pairs = zip(task.prefer, merit(better, task), merit(other, task), strict=True)
    return next((name for name, a, b in pairs if a != b), "")
