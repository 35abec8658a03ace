"""From scores of pages to figures of a cell: means with bootstrap intervals over pages, and two cells page by page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

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
    """The mean difference of two cells over the pages that both answered, the first less the second."""

    pages: int
    difference: Estimate
    same: bool

    @property
    def shown(self) -> bool:
        """Whether the interval leaves zero out: the difference is not chance alone."""
        return self.difference.low > 0 or self.difference.high < 0

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"pages": self.pages, "difference": self.difference.as_data(), "same": self.same, "shown": self.shown}


def mean(values: Sequence[float]) -> Estimate:
    """The mean, and the percentile bootstrap over the values; the same for the same values."""
    if not values:
        return Estimate(math.nan, math.nan, math.nan)
    drawn = np.asarray(values, np.float64)
    # the legacy generator's stream is promised to stay as it is (NEP 19), so that an interval does too
    places = np.random.RandomState(1).randint(0, len(drawn), size=(RESAMPLES, len(drawn)))
    means = drawn[places].mean(axis=1)
    low, high = (float(v) for v in np.percentile(means, (2.5, 97.5)))
    return Estimate(float(drawn.mean()), low, high)


def share(hits: int, of: int) -> Estimate:
    """A share with Wilson's interval: none of forty is not none for sure."""
    if not of:
        return Estimate(math.nan, math.nan, math.nan)
    p, z2 = hits / of, _Z * _Z
    middle = (p + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z / (1 + z2 / of) * math.sqrt(p * (1 - p) / of + z2 / (4 * of * of))
    return Estimate(p, max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half)))


def paired(first: Mapping[str, float], second: Mapping[str, float]) -> Paired:
    """Two cells page by page: what makes one page harder than another falls out."""
    both = [page for page in first if page in second]
    differences = [first[page] - second[page] for page in both]
    return Paired(len(both), mean(differences), not any(differences))
