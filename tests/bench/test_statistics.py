"""The statistics agree with Python's own, find what is there, and claim nothing that is not."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.bench.statistics import (
    compare_apart,
    compare_paired,
    fewest_rounds,
    half_width,
    is_noisy,
    median_interval,
    sign_test,
    summary,
)

speeds = st.lists(st.floats(0.1, 1e5), min_size=1, max_size=20)


@given(speeds)
def test_a_summary_lies_within_its_samples_and_keeps_them(samples: list[float]) -> None:
    told = summary(samples)
    assert told["samples"] == samples
    assert told["min"] <= told["median"] <= told["max"]
    assert told["min"] - 1e-9 <= told["mean"] <= told["max"] + 1e-9
    assert told["sd"] == pytest.approx(statistics.stdev(samples) if len(samples) > 1 else 0)
    if told["interval"]:
        assert told["min"] <= told["interval"]["low"] <= told["median"] <= told["interval"]["high"] <= told["max"]


@pytest.mark.parametrize(
    ("samples", "noisy"), [([100.0, 101.0, 99.0], False), ([100.0, 50.0, 150.0], True), ([100.0], False)]
)
def test_a_wide_spread_is_noise(samples: list[float], noisy: bool) -> None:
    assert is_noisy(samples) is noisy


def test_fewer_than_five_samples_have_no_interval() -> None:
    assert median_interval([1.0, 2.0, 3.0, 4.0]) is None
    assert half_width([1.0, 2.0]) == math.inf


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_the_interval_of_a_median_covers_it_nearly_as_often_as_it_says(rho: float) -> None:
    draw, covered = random.Random(7), 0
    for _ in range(100):
        level, series = 0.0, []
        for _ in range(40):
            level = rho * level + draw.gauss(0, math.sqrt(1 - rho**2))
            series.append(100 + level)
        found = median_interval(series)
        assert found is not None
        covered += found.low <= 100 <= found.high
    assert covered > (89 if rho == 0 else 80)


@pytest.mark.parametrize(
    ("ratios", "chance"),
    [([1.1] * 8, 2 / 256), ([1.1, 0.9], 1.0), ([1.1] * 7 + [0.9], 2 * 9 / 256), ([1.0] * 5, 1.0)],
)
def test_the_sign_test_is_the_binomial_one(ratios: list[float], chance: float) -> None:
    assert sign_test(ratios) == pytest.approx(chance)


@pytest.mark.parametrize(("comparisons", "rounds"), [(1, 8), (4, 10), (10, 11), (0, 8)])
def test_more_comparisons_ask_for_more_rounds(comparisons: int, rounds: int) -> None:
    assert fewest_rounds(comparisons) == rounds


@pytest.mark.parametrize(
    ("factor", "rounds", "verdict"),
    [(1.0, 20, "no difference shown"), (0.97, 20, "slower"), (1.03, 20, "faster"), (0.97, 7, "too few rounds")],
)
def test_variants_are_compared_round_by_round_whatever_the_machine_does(
    factor: float, rounds: int, verdict: str
) -> None:
    draw = random.Random(1)
    drift = [100 * (1 + 0.2 * math.sin(i)) for i in range(rounds)]
    base = [d * (1 + draw.gauss(0, 0.005)) for d in drift]
    ours = [d * factor * (1 + draw.gauss(0, 0.005)) for d in drift]
    found = compare_paired(ours, base)
    assert found.verdict == verdict
    assert found.ratio == pytest.approx(factor, abs=0.01)


def test_a_difference_is_told_with_its_ends() -> None:
    found = compare_paired([97.0, 97.2, 96.9, 97.1, 97.0, 97.1, 96.8, 97.3], [100.0] * 8)
    assert found.words() == "slower by 2.8 to 3.1 %"


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, "no difference shown"), (0.99, "no difference shown"), (0.97, "slower")]
)
def test_another_run_is_slower_only_beyond_the_tolerance(factor: float, verdict: str) -> None:
    draw = random.Random(3)
    base = [100 * (1 + draw.gauss(0, 0.01)) for _ in range(20)]
    ours = [100 * factor * (1 + draw.gauss(0, 0.01)) for _ in range(20)]
    assert compare_apart(ours, base, tolerance=0.01).verdict == verdict
