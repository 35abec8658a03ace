"""From scores of pages to figures of a cell: means with bootstrap intervals over pages, and two cells page by page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from qwenops.bench.statistics import ERROR_RATE

RESAMPLES: Final = 4000
_Z: Final = 1.959964  # 95 % of a normal distribution lies within so many standard deviations


@dataclass(frozen=True)
class Estimate:
    """A mean with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def as_data(self) -> dict[str, float]:
        """Plain JSON values."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Paired:
    """The mean difference of two cells over the pages that both answered, the first less the second.

    `p` is the chance of a difference as large where neither is better (signs flipped at random, page by page). It is
    `shown` where that is below the error that one command allows itself, shared by its comparisons, and the interval
    at that level leaves zero out.
    """

    pages: int
    difference: Estimate
    p: float
    same: bool
    shown: bool

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def mean(values: Sequence[float], *, level: float = 0.95) -> Estimate:
    """The mean, and the percentile bootstrap over the values; the same for the same values."""
    if not values:
        return Estimate(math.nan, math.nan, math.nan)
    drawn = np.asarray(values, np.float64)
    places = _chance().randint(0, len(drawn), size=(RESAMPLES, len(drawn)))
    cut = 50 * (1 - level)
    low, high = (float(v) for v in np.percentile(drawn[places].mean(axis=1), (cut, 100 - cut)))
    return Estimate(float(drawn.mean()), low, high)


def share(hits: int, of: int) -> Estimate:
    """A share with Wilson's interval: none of forty is not none for sure."""
    if not of:
        return Estimate(math.nan, math.nan, math.nan)
    p, z2 = hits / of, _Z * _Z
    middle = (p + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z / (1 + z2 / of) * math.sqrt(p * (1 - p) / of + z2 / (4 * of * of))
    return Estimate(p, max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half)))


def paired(first: Mapping[str, float], second: Mapping[str, float], *, comparisons: int = 1) -> Paired:
    """Two cells page by page: what makes one page harder than another falls out."""
    both = [page for page in first if page in second]
    differences = [first[page] - second[page] for page in both]
    allowed = ERROR_RATE / max(comparisons, 1)
    difference, p = mean(differences, level=1 - allowed), _p_value(differences)
    shown = p <= allowed and (difference.low > 0 or difference.high < 0)
    return Paired(len(both), difference, p, not any(differences), shown)


def _p_value(differences: Sequence[float]) -> float:
    """The two-sided sign-flip test of a mean of zero."""
    told = np.asarray([d for d in differences if d], np.float64)
    if not len(told):
        return 1.0
    flips = _chance().randint(0, 2, size=(RESAMPLES, len(told))) * 2 - 1
    as_large = np.abs((flips * told).sum(axis=1)) >= abs(told.sum()) - 1e-12
    return float((1 + int(as_large.sum())) / (1 + RESAMPLES))


def _chance() -> np.random.RandomState:
    """The legacy generator's stream is promised to stay as it is (NEP 19), so that an interval does too."""
    return np.random.RandomState(1)
