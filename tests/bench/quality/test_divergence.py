"""The compact form gives what the full one gives, written out here in plain sums."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qwenops.bench.quality.divergence import Kept, NotFinite, Scores, compare, joined_scores, keep

Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as workers:
        yield workers


def _logits(seed: int, rows: int, vocabulary: int, spread: float) -> Array:
    return np.random.default_rng(seed).normal(0, spread, (rows, vocabulary)).astype(np.float32)


def _steps(row: Array) -> tuple[float, float, list[int]]:
    """Every token's step, as the tool's file has them: scale, lowest log-probability, steps."""
    values = [float(v) for v in row]
    most = max(values)
    least = max(min(values), most - 16)
    log_sum = math.log(sum(math.exp(v - most) for v in values))
    scale = (most - least) / 65535
    return scale, least - most - log_sum, [round((v - least) / scale) if v > least else 0 for v in values]


def _plain(base: Array, row: Array, target: int) -> tuple[float, float, float, bool]:
    scale, lowest, steps = _steps(base)
    theirs = [scale * s + lowest for s in steps]
    most = max(float(v) for v in row)
    log_sum = most + math.log(sum(math.exp(float(v) - most) for v in row))
    kld = sum(math.exp(p) * (p - float(v) + log_sum) for p, v in zip(theirs, row, strict=True) if p > -16)
    return log_sum - float(row[target]), -theirs[target], kld, int(row.argmax()) == steps.index(max(steps))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 300), st.floats(0.1, 12), st.floats(0, 3))
def test_scores_are_those_of_the_plain_sums(seed: int, vocabulary: int, spread: float, further: float) -> None:
    base = _logits(seed, 5, vocabulary, spread)
    other = base + _logits(seed + 1, 5, vocabulary, further)
    targets = np.random.default_rng(seed).integers(0, vocabulary, 5).astype(np.int32)
    with ThreadPoolExecutor(2) as pool:
        kept, own = keep(base, targets, pool, 2)
        found = compare(other, targets, kept, pool, 2)
    assert found.nll_base is not None
    assert found.kld is not None
    assert found.same is not None
    for row in range(5):
        nll, nll_base, kld, same = _plain(base[row], other[row], int(targets[row]))
        assert found.nll[row] == pytest.approx(nll, rel=1e-5, abs=1e-4)
        assert found.nll_base[row] == pytest.approx(nll_base, rel=1e-4, abs=5e-4)
        assert found.kld[row] == pytest.approx(kld, rel=1e-3, abs=2e-4)
        assert found.same[row] == same or np.ptp(np.partition(other[row], -2)[-2:]) < 1e-3
        # the reference's own likelihood is the exact one; what is kept of it is within the 16 below the top
        assert own.nll[row] >= found.nll_base[row] - 5e-4


def test_a_distribution_beside_itself_has_no_divergence(pool: ThreadPoolExecutor) -> None:
    logits = _logits(1, 40, 5000, 4)
    targets = np.zeros(40, np.int32)
    kept, _ = keep(logits, targets, pool, 3)
    found = compare(logits, targets, kept, pool, 3)
    assert found.kld is not None
    assert found.same is not None
    assert np.abs(found.kld).max() < 1e-4
    assert found.same.all()


def test_flat_logits_are_kept_without_a_scale(pool: ThreadPoolExecutor) -> None:
    logits = np.full((1, 64), 3, np.float32)
    kept, own = keep(logits, np.array([5], np.int32), pool, 1)
    assert (float(kept.scale[0]), int(kept.counts[0])) == (0, 64)
    assert own.nll[0] == pytest.approx(math.log(64), rel=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_refused(pool: ThreadPoolExecutor, bad: float) -> None:
    logits = _logits(2, 3, 100, 2)
    logits[1, 7] = bad
    targets = np.zeros(3, np.int32)
    if bad == -float("inf"):  # a token that a model rules out
        keep(logits, targets, pool, 1)
        return
    with pytest.raises(NotFinite):
        keep(logits, targets, pool, 1)


def test_parts_joined_are_the_whole(pool: ThreadPoolExecutor) -> None:
    logits = _logits(3, 9, 700, 5)
    targets = np.arange(9, dtype=np.int32)
    whole, scores = keep(logits, targets, pool, 2)
    parts = [keep(logits[a:b], targets[a:b], pool, 2) for a, b in ((0, 4), (4, 9))]
    for one, other in zip(astuple(whole), astuple(Kept.joined([k for k, _ in parts])), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(scores.nll, joined_scores([s for _, s in parts]).nll)
    cut = whole.part(4, 9)
    np.testing.assert_array_equal(cut.values, parts[1][0].values)
    assert isinstance(joined_scores([Scores(targets.astype(np.float32))]), Scores)
