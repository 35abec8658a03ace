"""Statistics of repeated measurements, small enough to read."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

# A spread above this share of the mean says that the machine was busy, not that the model is.
NOISY_SHARE = 0.10


def summary(samples: Sequence[float]) -> dict[str, Any]:
    """Mean, sample standard deviation, median, smallest and largest of the samples, with the samples themselves."""
    return {
        "mean": statistics.fmean(samples),
        "sd": statistics.stdev(samples) if len(samples) > 1 else 0.0,
        "median": statistics.median(samples),
        "min": min(samples),
        "max": max(samples),
        "samples": list(samples),
    }


def is_noisy(samples: Sequence[float]) -> bool:
    """Whether the spread is too wide to tell two variants apart by a few percent."""
    return len(samples) > 1 and statistics.stdev(samples) > NOISY_SHARE * statistics.fmean(samples)
