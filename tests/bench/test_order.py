"""Every round has every variant and test once, in an order that is drawn anew and can be drawn again."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.bench.order import ALONE, COMPARED, Clock, Effort, in_a_turn, is_precise, turns

counts = st.integers(1, 6)


@given(counts, counts, st.integers(), st.integers(0, 50), st.sampled_from(["side by side", "in turn"]))
def test_a_round_has_every_cell_once_and_is_the_same_for_the_same_seed(
    variants: int, tests: int, seed: int, round_: int, mode: str
) -> None:
    order = list(turns(mode, range(variants), tests, seed, round_))  # type: ignore[arg-type]
    assert sorted(order) == [(v, t) for v in range(variants) for t in range(tests)]
    assert order == list(turns(mode, range(variants), tests, seed, round_))  # type: ignore[arg-type]


def test_side_by_side_a_test_goes_through_all_variants_and_in_turn_a_variant_through_all_tests() -> None:
    side = [t for _, t in turns("side by side", range(3), 4, 0, 0)]
    turn = [v for v, _ in turns("in turn", range(3), 4, 0, 0)]
    assert [len(list(g)) for _, g in groupby(side)] == [3] * 4
    assert [len(list(g)) for _, g in groupby(turn)] == [4] * 3


def test_nobody_is_always_first() -> None:
    first = [next(turns("in turn", range(3), 1, 0, r))[0] for r in range(60)]
    assert all(first.count(v) > 8 for v in range(3))


@pytest.mark.parametrize(
    ("effort", "variants", "rounds"),
    [(Effort(), 1, ALONE), (Effort(), 2, COMPARED), (Effort(repetitions=3), 2, 3), (Effort(precision=0.01), 1, 1000)],
)
def test_how_many_rounds(effort: Effort, variants: int, rounds: int) -> None:
    assert effort.rounds(variants) == rounds


@pytest.mark.parametrize(
    ("load_s", "tests_s", "repetitions", "several"),
    [(1, 10, 10, 1), (30, 10, 10, 1), (30, 10, 40, 3), (300, 1, 1000, 10), (1, 0, 10, 1)],
)
def test_a_turn_makes_up_for_its_load_and_leaves_rounds_to_compare(
    load_s: float, tests_s: float, repetitions: int, several: int
) -> None:
    assert in_a_turn(load_s, tests_s, repetitions) == several


def test_a_round_that_would_end_too_late_is_not_begun() -> None:
    now = [0.0]
    clock = Clock(10.0, now=lambda: now[0])
    assert not clock.is_over(5)
    now[0] = 6
    assert clock.is_over(5)
    assert not Clock(None).is_over(1e9)


def test_precise_is_what_has_rounds_enough_and_a_narrow_interval() -> None:
    assert not is_precise([[100.0] * 5], 0.01)
    assert is_precise([[100.0, 100.1] * 6], 0.01)
    assert not is_precise([[100.0, 100.1] * 6, [90.0, 110.0] * 6], 0.01)
