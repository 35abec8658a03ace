"""From scores to figures: the sums, errors and percentiles that llama-perplexity prints (b10435)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qwenops.bench.quality.divergence import Scores
from qwenops.bench.quality.types import Figures

_FEW = 10  # up to so many values no error is told

Doubles = NDArray[np.float64]


def figures(parts: Sequence[Scores]) -> Figures:
    """The figures of some chunks together."""
    nll = _joined([p.nll for p in parts])
    mean, error = _mean(nll)
    ppl = math.exp(mean)
    beside = [(p.nll_base, p.kld, p.same) for p in parts]
    if any(one is None for three in beside for one in three):
        return Figures(ppl, ppl * error, len(nll))
    base = _joined([p.nll_base for p in parts])
    kld = _joined([p.kld for p in parts])
    same = float(_joined([p.same for p in parts]).mean())
    base_mean, base_error = _mean(base)
    ratio = math.exp(mean - base_mean)
    spread = error**2 + base_error**2 - 2 * _covariance(nll, base)
    kld_mean, kld_error = _mean(kld)
    return Figures(
        ppl=ppl,
        ppl_error=ppl * error,
        scored=len(nll),
        kld_mean=kld_mean,
        kld_error=kld_error,
        kld_median=float(np.median(kld)),
        kld_p99=float(np.percentile(kld, 99)),
        kld_max=float(kld.max()),
        same_top=same,
        same_top_error=math.sqrt(same * (1 - same) / (len(kld) - 1)) if len(kld) > 1 else 0.0,
        ppl_ratio=ratio,
        ppl_ratio_error=ratio * math.sqrt(max(0.0, spread)),
    )


def samples(parts: Sequence[Scores]) -> dict[str, tuple[float, ...]]:
    """Each chunk's perplexity, and beside a reference its mean divergence and its share of same top tokens."""
    found = {"ppl": tuple(math.exp(float(p.nll.mean(dtype=np.float64))) for p in parts)}
    if all(p.kld is not None and p.same is not None for p in parts):
        found["kld"] = tuple(float(p.kld.mean(dtype=np.float64)) for p in parts if p.kld is not None)
        found["same_top"] = tuple(float(p.same.mean()) for p in parts if p.same is not None)
    return found


def _joined(arrays: Sequence[NDArray[np.float32] | NDArray[np.bool_] | None]) -> Doubles:
    return np.concatenate([a for a in arrays if a is not None]).astype(np.float64)


def _mean(values: Doubles) -> tuple[float, float]:
    """The mean and its standard error."""
    mean = float(values.mean())
    spread = float((values**2).mean()) - mean**2
    return mean, math.sqrt(spread / (len(values) - 1)) if spread > 0 and len(values) > _FEW else 0.0


def _covariance(a: Doubles, b: Doubles) -> float:
    """The covariance of two means over the same tokens."""
    if len(a) < _FEW:
        return 0.0
    return (float((a * b).mean()) - float(a.mean()) * float(b.mean())) / (len(a) - 1)
