"""What two variants' measurements show of a difference between them: an interval, or nothing.

Speeds are told by medians, since a busy moment makes one repetition far slower. The interval of a median lies between
two of the ordered samples, chosen by the sign test: it holds whatever the distribution and needs no resampling
(Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2). Rates (errors a page, divergence a chunk) are told
by means of paired differences, with Student's t.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LEVEL: Final = 0.95
"""What the interval of a figure that is shown covers."""
CLAIM: Final = 0.99
"""What an interval covers that may overturn an order: as `bench speed` claims a difference in one of a hundred."""
FEWEST_PAIRS: Final = 20
"""Below so many pages or chunks their mean is not near enough to normal."""
DRIFT: Final = 0.02
"""What a machine may differ by between two runs, as a share; it is in neither run's samples."""


@dataclass(frozen=True)
class Interval:
    """A value and where it lies; `n` is how many samples say so."""

    value: float
    low: float
    high: float
    n: int

    @property
    def inverse(self) -> Interval:
        """Of a ratio the other way round."""
        return Interval(1 / self.value, 1 / self.high, 1 / self.low, self.n)


def median_of(samples: Sequence[float], level: float = LEVEL) -> Interval | None:
    """The median with its interval; None for too few samples to have one at that level."""
    ordered, n = sorted(samples), len(samples)
    below, cut = 0.0, -1  # the interval leaves out `cut + 1` samples at each end
    while cut + 1 < n // 2:
        below += math.comb(n, cut + 1) / 2.0**n
        if 2 * below > 1 - level:
            break
        cut += 1
    if cut < 0:
        return None
    return Interval(statistics.median(ordered), ordered[cut], ordered[n - 1 - cut], n)


def mean_of(samples: Sequence[float], level: float = LEVEL) -> Interval | None:
    """The mean with its interval by Student's t; None for fewer than two samples."""
    n = len(samples)
    if n < 2:
        return None
    mean = statistics.fmean(samples)
    half = student(n - 1, level) * statistics.stdev(samples) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def ratio_in_rounds(ours: Sequence[float], theirs: Sequence[float], level: float = CLAIM) -> Interval | None:
    """The median ratio of speeds that were taken side by side, round by round."""
    return median_of([a / b for a, b in zip(ours, theirs, strict=True)], level)


def ratio_apart(ours: Sequence[float], theirs: Sequence[float], level: float = CLAIM) -> Interval | None:
    """The ratio of the medians of two runs: each within its own interval, and the machine's drift beyond both."""
    each = 1 - (1 - level) / 2
    a, b = median_of(ours, each), median_of(theirs, each)
    if a is None or b is None:
        return None
    return Interval(a.value / b.value, a.low / b.high * (1 - DRIFT), a.high / b.low * (1 + DRIFT), min(a.n, b.n))


def difference(ours: Sequence[float], theirs: Sequence[float], level: float = CLAIM) -> Interval | None:
    """The mean of paired differences, ours less theirs; None for fewer than FEWEST_PAIRS."""
    pairs = [a - b for a, b in zip(ours, theirs, strict=True)]
    return mean_of(pairs, level) if len(pairs) >= FEWEST_PAIRS else None


def student(degrees: int, level: float) -> float:
    """The two-sided quantile of Student's t.

    For few degrees in closed form, else by the expansion in the normal quantile (Abramowitz and Stegun, Handbook of
    Mathematical Functions, 26.7.5), which is within 1 % from three degrees on at the levels used here.
    """
    p = 0.5 + level / 2
    if degrees == 1:
        return math.tan(math.pi * (p - 0.5))
    if degrees == 2:
        return (2 * p - 1) * math.sqrt(2 / (4 * p * (1 - p)))
    z = statistics.NormalDist().inv_cdf(p)
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + g1 / degrees + g2 / degrees**2 + g3 / degrees**3 + g4 / degrees**4
