"""Intervals hold what they promise: against tables, and by drawing samples of which the truth is known."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenops.plan.intervals import FEWEST_PAIRS, difference, mean_of, median_of, ratio_apart, ratio_in_rounds, student

SOME = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SPEEDS = st.lists(st.floats(1, 1000), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("degrees", "at_95", "at_99"),
    [
        (1, 12.706, 63.657),
        (2, 4.303, 9.925),
        (3, 3.182, 5.841),
        (10, 2.228, 3.169),
        (30, 2.042, 2.750),
        (60, 2.0, 2.660),
    ],
)
def test_students_t_is_that_of_the_tables(degrees: int, at_95: float, at_99: float) -> None:
    assert student(degrees, 0.95) == pytest.approx(at_95, rel=0.01)
    assert student(degrees, 0.99) == pytest.approx(at_99, rel=0.01)


@pytest.mark.parametrize(
    ("n", "level", "ends"), [(6, 0.95, (0, 5)), (8, 0.99, (0, 7)), (20, 0.95, (5, 14)), (25, 0.95, (7, 17))]
)
def test_a_medians_interval_lies_between_the_ranks_of_the_tables(n: int, level: float, ends: tuple[int, int]) -> None:
    """Ranks of Conover's table A3 and of the binomial distribution."""
    found = median_of(list(range(n)), level)
    assert found
    assert (found.low, found.high) == ends


@pytest.mark.parametrize(("n", "level"), [(0, 0.95), (1, 0.95), (5, 0.95), (7, 0.99)])
def test_too_few_samples_have_no_interval(n: int, level: float) -> None:
    assert median_of([1.0] * n, level) is None


@SOME
@given(SPEEDS)
def test_an_interval_holds_its_value_and_a_surer_one_is_wider(samples: list[float]) -> None:
    usual, sure = median_of(samples, 0.95), median_of(samples, 0.99)
    if usual is None:
        assert sure is None
        return
    assert usual.low <= usual.value <= usual.high
    assert usual.value == statistics.median(samples)
    if sure:
        assert sure.low <= usual.low <= usual.high <= sure.high


@SOME
@given(SPEEDS, st.floats(0.1, 10))
def test_a_ratio_is_what_it_is(samples: list[float], factor: float) -> None:
    found = ratio_in_rounds([factor * s for s in samples], samples)
    if found:
        assert found.low == pytest.approx(factor)
        assert found.high == pytest.approx(factor)
    apart = ratio_apart([factor * s for s in samples], samples)
    if apart:
        assert apart.low < factor < apart.high, "two runs are never told apart more finely than a machine drifts"


@SOME
@given(SPEEDS, SPEEDS)
def test_the_other_way_round_is_the_inverse(ours: list[float], theirs: list[float]) -> None:
    one, other = ratio_apart(ours, theirs), ratio_apart(theirs, ours)
    assert (one is None) is (other is None)
    if one and other:
        assert one.inverse.value == pytest.approx(other.value)


def test_pairs_that_are_too_few_say_nothing() -> None:
    assert difference([0.0] * (FEWEST_PAIRS - 1), [0.0] * (FEWEST_PAIRS - 1)) is None
    assert difference([0.0] * FEWEST_PAIRS, [0.0] * FEWEST_PAIRS)
    assert mean_of([1.0]) is None


def test_a_difference_that_is_not_there_is_rarely_claimed_and_one_of_five_in_a_hundred_is_found() -> None:
    chance = random.Random(6)

    def claims(factor: float) -> int:
        found = 0
        for _ in range(400):
            drift = [chance.gauss(1, 0.05) for _ in range(15)]
            ours = [factor * d * chance.gauss(1, 0.01) for d in drift]
            theirs = [d * chance.gauss(1, 0.01) for d in drift]
            interval = ratio_in_rounds(ours, theirs)
            assert interval
            found += interval.low > 1 or interval.high < 1
        return found

    assert claims(1.0) <= 12, "at 99 in a hundred, four of 400 are expected"
    assert claims(1.05) >= 392
