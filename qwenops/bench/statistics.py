"""Statistics of repeated measurements: medians with bootstrap intervals, and variants compared round by round.

A machine drifts, other programs come and go, and a few repetitions take far longer than the rest. So medians are told
and not means, intervals are resampled and not taken from a normal distribution, and neighbours in time are drawn
together (circular block bootstrap: Politis and Romano, 1992), since a slow minute makes several of them slow.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

LEVEL = 0.95
"""What the interval of a single figure covers."""
ERROR_RATE = 0.01
"""How often one command may claim a difference that is not there, over all its comparisons together."""
RESAMPLES = 2000
FEWEST = 5
"""Below so many values an interval of their median says nothing: it cannot reach LEVEL."""
_BLOCKS_FROM = 10
_ROUGHLY = 200
NOISY_SHARE = 0.10
"""A spread above this share of the mean says that the machine was busy, not that the model is."""

Verdict = Literal["faster", "slower", "no difference shown", "too few rounds"]


@dataclass(frozen=True)
class Interval:
    """Where a median lies, at the stated level."""

    low: float
    high: float
    level: float = LEVEL


@dataclass(frozen=True)
class Comparison:
    """One variant beside another in one test: the median of the ratios of their speeds, by round.

    `ratio` above 1 is faster. The interval is as wide as the number of comparisons asks for (Bonferroni); the verdict
    is a difference only where it leaves 1 out and the signs of the rounds alone say so too.
    """

    ratio: float
    interval: Interval | None
    rounds: int
    verdict: Verdict

    def words(self) -> str:
        """The verdict with its interval: 'faster by 1.9 to 2.7 %'."""
        if self.interval is None or self.verdict not in ("faster", "slower"):
            return self.verdict
        return between(self.verdict, self.interval)

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "words": self.words()}


def between(verdict: str, interval: Interval) -> str:
    """'faster by 1.9 to 2.7 %' of an interval of ratios."""
    ends = sorted(abs(end - 1) * 100 for end in (interval.low, interval.high))
    return f"{verdict} by {ends[0]:.1f} to {ends[1]:.1f} %"


def summary(samples: Sequence[float], *, with_interval: bool = True) -> dict[str, Any]:
    """Mean, sample standard deviation, median with its interval, smallest and largest, with the samples themselves.

    The interval takes some 10 ms: lists of many rows do without.
    """
    found = median_interval(samples) if with_interval else None
    return {
        "mean": statistics.fmean(samples),
        "sd": statistics.stdev(samples) if len(samples) > 1 else 0.0,
        "median": statistics.median(samples),
        "interval": asdict(found) if found else None,
        "min": min(samples),
        "max": max(samples),
        "samples": list(samples),
    }


def is_noisy(samples: Sequence[float]) -> bool:
    """Whether the spread is too wide to tell two variants apart by a few percent."""
    return len(samples) > 1 and statistics.stdev(samples) > NOISY_SHARE * statistics.fmean(samples)


def median_interval(samples: Sequence[float], *, level: float = LEVEL, resamples: int = RESAMPLES) -> Interval | None:
    """The bootstrap interval of the median; None for fewer than FEWEST samples."""
    if len(samples) < FEWEST:
        return None
    return _percentiles(_medians(samples, random.Random(0), resamples), level)


def half_width(samples: Sequence[float], *, level: float = LEVEL) -> float:
    """Half the interval as a share of the median, roughly, since it is asked for often; infinite without one."""
    found = median_interval(samples, level=level, resamples=_ROUGHLY)
    middle = statistics.median(samples) if samples else 0.0
    return (found.high - found.low) / 2 / abs(middle) if found and middle else math.inf


def compare_paired(ours: Sequence[float], base: Sequence[float], *, comparisons: int = 1) -> Comparison:
    """Two variants whose speeds were taken side by side: the k-th of each belong to one round."""
    return compare_ratios([a / b for a, b in zip(ours, base, strict=True)], comparisons=comparisons)


def compare_ratios(ratios: Sequence[float], *, comparisons: int = 1) -> Comparison:
    """The ratios of two variants' speeds, one a round.

    `comparisons` is how many the command makes, which share ERROR_RATE among them.
    """
    error = ERROR_RATE / max(comparisons, 1)
    found = median_interval(ratios, level=1 - error)
    middle = statistics.median(ratios) if ratios else math.nan
    if found is None or len(ratios) < fewest_rounds(comparisons):
        return Comparison(middle, found, len(ratios), "too few rounds")
    shown = (found.low > 1 or found.high < 1) and sign_test(ratios) <= error
    verdict: Verdict = ("faster" if middle > 1 else "slower") if shown else "no difference shown"
    return Comparison(middle, found, len(ratios), verdict)


def compare_apart(
    ours: Sequence[float], base: Sequence[float], *, tolerance: float, comparisons: int = 1
) -> Comparison:
    """Two runs at different times: the ratio of their medians, each resampled by itself.

    What the machine itself does between two runs is in no sample, so a difference is claimed only where the whole
    interval lies beyond `tolerance` (a share of 1).
    """
    error = ERROR_RATE / max(comparisons, 1)
    middle = statistics.median(ours) / statistics.median(base)
    if min(len(ours), len(base)) < FEWEST:
        return Comparison(middle, None, min(len(ours), len(base)), "too few rounds")
    mine, theirs = _medians(ours, random.Random(1)), _medians(base, random.Random(2))
    found = _percentiles([a / b for a, b in zip(mine, theirs, strict=True)], 1 - error)
    verdict: Verdict = "no difference shown"
    if found.high < 1 - tolerance:
        verdict = "slower"
    elif found.low > 1 + tolerance:
        verdict = "faster"
    return Comparison(middle, found, min(len(ours), len(base)), verdict)


def sign_test(ratios: Sequence[float]) -> float:
    """The chance that as many of the ratios lie on one side of 1 where neither variant is faster (two-sided)."""
    above, below = sum(r > 1 for r in ratios), sum(r < 1 for r in ratios)
    n, fewer = above + below, min(above, below)
    return min(1.0, 2.0 * sum(math.comb(n, k) for k in range(fewer + 1)) / float(2**n))


def fewest_rounds(comparisons: int = 1) -> int:
    """How many rounds it takes before any difference can be claimed: all of them on one side, by the sign test."""
    return max(FEWEST, math.ceil(math.log2(2 * max(comparisons, 1) / ERROR_RATE)))


def _medians(samples: Sequence[float], draw: random.Random, resamples: int = RESAMPLES) -> list[float]:
    """Medians of so many series drawn from the samples, in blocks where there are enough of them."""
    n = len(samples)
    block = block_length(samples)
    series = _blocks(samples, block, draw) if block > 1 else lambda: draw.choices(samples, k=n)
    return [_median(series()) for _ in range(resamples)]


def block_length(samples: Sequence[float]) -> int:
    """How many neighbours are drawn together: the cube root of their number, or twice as far as they are alike.

    Alike is a correlation of ranks above what chance gives (2 / sqrt(n)), so that a machine that drifts makes intervals
    wide; a quarter of the samples at most.
    """
    n = len(samples)
    if n < _BLOCKS_FROM:
        return 1
    ranks = _centred_ranks(samples)
    spread = sum(r * r for r in ranks) or 1.0
    most = n // 4
    alike = 0
    for lag in range(1, most + 1):
        if sum(ranks[i] * ranks[i + lag] for i in range(n - lag)) / spread < 2 / math.sqrt(n):
            break
        alike = lag
    shortest: int = math.ceil(float(n) ** (1 / 3))
    return max(1, min(max(shortest, 2 * alike), most))


def _centred_ranks(samples: Sequence[float]) -> list[float]:
    order = sorted(range(len(samples)), key=samples.__getitem__)
    ranks = [0.0] * len(samples)
    for rank, i in enumerate(order):
        ranks[i] = rank - (len(samples) - 1) / 2
    return ranks


def _blocks(samples: Sequence[float], block: int, draw: random.Random) -> Callable[[], list[float]]:
    ring, n = [*samples, *samples[:block]], len(samples)
    runs = [ring[i : i + block] for i in range(n)]

    def series() -> list[float]:
        drawn = [value for run in draw.choices(runs, k=-(-n // block)) for value in run]
        return drawn[:n]

    return series


def _median(values: list[float]) -> float:
    values.sort()
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


def _percentiles(medians: list[float], level: float) -> Interval:
    ordered = sorted(medians)
    cut = (1 - level) / 2
    low, high = math.floor(cut * len(ordered)), math.ceil((1 - cut) * len(ordered)) - 1
    return Interval(ordered[low], ordered[high], level)
