"""In which order variants are measured, and how long: rounds in random order, until the figures are precise enough.

A machine gets warmer, and its other programs come and go. Measured one after the other, the variant that was last
would pay for it; in rounds, each of which has every variant once in an order drawn anew, all of them do.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from qwenops.bench.statistics import fewest_rounds, half_width

Mode = Literal["side by side", "in turn"]
"""Loaded together and switched between at every test, or loaded anew for each turn."""

ALONE, COMPARED = 5, 10
"""Repetitions where nothing else is asked for: llama-bench's own for one variant, enough for a verdict for several."""
_MOST_ROUNDS = 1000
_MOST_IN_A_TURN = 10


@dataclass(frozen=True)
class Effort:
    """How long to measure: a fixed number of repetitions, or until the figures are precise enough.

    `precision` is half the width of an interval as a share of its median; `time_limit_s` ends either early. `loads` is
    how often the weights are read where loads are timed.
    """

    repetitions: int | None = None
    precision: float | None = None
    time_limit_s: float | None = None
    loads: int = 0

    def rounds(self, variants: int) -> int:
        """The number of rounds at most."""
        if self.repetitions is not None:
            return self.repetitions
        return _MOST_ROUNDS if self.precision is not None else COMPARED if variants > 1 else ALONE


@dataclass
class Clock:
    """The time that a run has taken; `now` is for tests."""

    limit_s: float | None
    now: Callable[[], float] = time.monotonic
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.now()

    @property
    def spent_s(self) -> float:
        """Seconds since the run began."""
        return self.now() - self.began

    def is_over(self, next_round_s: float = 0.0) -> bool:
        """Whether another round of that length would pass the limit."""
        return self.limit_s is not None and self.spent_s + next_round_s > self.limit_s


def turns(mode: Mode, variants: Sequence[int], tests: int, seed: int, round_: int) -> Iterator[tuple[int, int]]:
    """(variant, test) of one round in the order in which it runs; the same for the same seed and round.

    Side by side, a test goes through all variants before the next one begins, so that what is compared lies seconds
    apart. In turn, a variant runs all its tests while it is loaded.
    """
    draw = random.Random(f"{seed}/{round_}")
    if mode == "side by side":
        for test in _shuffled(range(tests), draw):
            yield from ((variant, test) for variant in _shuffled(variants, draw))
        return
    for variant in _shuffled(variants, draw):
        yield from ((variant, test) for test in _shuffled(range(tests), draw))


def in_a_turn(load_s: float, tests_s: float, repetitions: int) -> int:
    """Repetitions of each test while a variant is loaded: as many as take the time of its load, so that at least half
    of a run is measuring, and few enough that there are rounds to compare."""
    wanted = math.ceil(load_s / tests_s) if tests_s > 0 else 1
    return max(1, min(wanted, _MOST_IN_A_TURN, repetitions // fewest_rounds()))


def is_due(rounds: int) -> bool:
    """Whether the precision is looked at after so many rounds: at each quarter more, since the answer takes its time,
    and since a run that looks at every round would stop at the luckiest."""
    due = COMPARED
    while due < rounds:
        due += max(1, due // 4)
    return due == rounds


def is_precise(series: Sequence[Sequence[float]], precision: float) -> bool:
    """Whether every series is known as well as was asked for."""
    return all(len(one) >= COMPARED and half_width(one) <= precision for one in series)


def _shuffled(values: Sequence[int] | range, draw: random.Random) -> list[int]:
    return draw.sample(list(values), len(values))
