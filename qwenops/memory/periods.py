"""Which blocks of a model are built where they repeat: one period of them, its ends, and how often it comes again.

A model's blocks are written as a word, a letter for each kind of block on its backend. Where a part of the word repeats
(the same block over and over, or three recurrent blocks and one that attends), the graph of the shorter word tells what
the longer one takes and gives back, since what is done for a block follows from the blocks beside it. That it does is
looked at where the tape is cut into blocks (parts.py), not taken for granted here.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

_LONGEST = 8  # blocks of a period


@dataclass(frozen=True)
class Repeat:
    """A period of kept blocks that comes `times` more often: the blocks from `at` on, before which they come in."""

    at: int
    period: int
    times: int


@dataclass(frozen=True)
class Shortened:
    """The blocks to build, by their places in the word, what comes again, and which of them each block is like."""

    kept: tuple[int, ...]
    repeats: tuple[Repeat, ...]
    sources: tuple[int, ...]


def whole(word: Sequence[Hashable]) -> Shortened:
    """Leave out nothing."""
    return Shortened(tuple(range(len(word))), (), tuple(range(len(word))))


def shortened(word: Sequence[Hashable], behind: int = 1) -> Shortened:
    """Leave out what comes again: first blocks that stand side by side, then periods of several.

    A period is kept twice, as its kinds of blocks are met for the first time in the first one, and of a third at least
    its first `behind` blocks and one more.
    """
    once = _without([(letter, 0) for letter in word], range(1, 2), behind)
    letters: list[tuple[Hashable, int]] = [(word[i], 0) for i in once.kept]
    for repeat in once.repeats:
        letters[repeat.at] = (letters[repeat.at][0], repeat.times)
    twice = _without(letters, range(2, _LONGEST + 1), behind + 1)
    place = {kept: i for i, kept in enumerate(twice.kept)}
    inner = [Repeat(place[r.at], r.period, r.times) for r in once.repeats if r.at in place]
    return Shortened(
        tuple(once.kept[i] for i in twice.kept),
        (*inner, *twice.repeats),
        tuple(twice.sources[i] for i in once.sources),
    )


def _without(word: Sequence[Hashable], periods: range, behind: int) -> Shortened:
    kept: list[int] = []
    repeats: list[Repeat] = []
    sources: list[int] = []
    start = 0
    while start < len(word):
        period, times, end = _best_period(word, start, periods, behind)
        first, left_out = len(kept), times * period
        if times:
            repeats.append(Repeat(first + period, period, times))
        else:
            end = start + 1
        kept.extend(range(start, min(start + period, end)) if times else (start,))
        kept.extend(range(start + period + left_out, end) if times else ())
        sources.extend(range(first, first + period))
        sources.extend([*range(first + period, first + 2 * period)] * times)
        sources.extend(range(first + period, len(kept)))
        start = end
    return Shortened(tuple(kept), tuple(repeats), tuple(sources))


def _best_period(word: Sequence[Hashable], start: int, periods: range, behind: int) -> tuple[int, int, int]:
    """The period from here on that leaves out the most blocks, how often it is left out, and where it ends."""
    best = (1, 0, start)
    for period in periods:
        end = start + period
        while end < len(word) and word[end] == word[end - period]:
            end += 1
        times = (end - start - 2 * period - behind) // period
        if times > 0 and times * period > best[0] * best[1]:
            best = (period, times, end)
    return best
