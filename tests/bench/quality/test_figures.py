"""Means, errors and percentiles as llama-perplexity defines them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qwenops.bench.quality.divergence import Scores
from qwenops.bench.quality.figures import figures, samples


def _scores(seed: int, n: int) -> Scores:
    rng = np.random.default_rng(seed)
    base = rng.exponential(3, n).astype(np.float32)
    nll = (base + rng.normal(0.1, 0.3, n)).astype(np.float32)
    return Scores(nll, base, rng.exponential(0.1, n).astype(np.float32), rng.random(n) < 0.9)


def test_the_figures_are_those_of_all_chunks_together() -> None:
    parts = [_scores(1, 300), _scores(2, 200)]
    found = figures(parts)
    nll = np.concatenate([p.nll for p in parts]).astype(float)
    base = np.concatenate([p.nll_base for p in parts if p.nll_base is not None]).astype(float)
    kld = np.sort(np.concatenate([p.kld for p in parts if p.kld is not None]).astype(float))
    assert found.scored == 500
    assert found.ppl == pytest.approx(math.exp(nll.mean()))
    assert found.ppl_error == pytest.approx(found.ppl * nll.std() / math.sqrt(499))
    assert found.kld_mean == pytest.approx(kld.mean())
    assert found.kld_median == pytest.approx((kld[249] + kld[250]) / 2)
    at = 0.99 * 499
    assert found.kld_p99 == pytest.approx(kld[494] * (1 - (at - 494)) + kld[495] * (at - 494))
    assert found.kld_max == pytest.approx(kld[-1])
    assert found.ppl_ratio == pytest.approx(math.exp((nll - base).mean()))
    # a ratio of means over the same tokens: its error is that of the paired differences
    assert found.ppl_ratio_error == pytest.approx(found.ppl_ratio * (nll - base).std() / math.sqrt(499))


def test_a_reference_alone_has_no_divergence() -> None:
    found = figures([Scores(np.full(20, 2, np.float32))])
    assert (found.ppl, found.ppl_error, found.kld_mean) == (pytest.approx(math.exp(2)), 0, None)
    assert list(samples([Scores(np.full(20, 2, np.float32))])) == ["ppl"]


def test_samples_are_a_value_a_chunk() -> None:
    parts = [_scores(seed, 50) for seed in range(4)]
    found = samples(parts)
    assert set(found) == {"ppl", "kld", "same_top"}
    assert [len(v) for v in found.values()] == [4, 4, 4]
    assert np.mean(found["kld"]) == pytest.approx(figures(parts).kld_mean)
