"""The front has nobody who is beaten, and who is left out is beaten by one who stands on it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenops.plan.front import Mark, beats, front

SOME = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def exact(**axes: float) -> dict[str, Mark]:
    return {axis: Mark(value, value, value) for axis, value in axes.items()}


def about(value: float, half: float) -> Mark:
    return Mark(value, value - half, value + half)


@pytest.mark.parametrize(
    ("points", "standings"),
    [
        ([], []),
        ([exact(memory=-1, speed=1)], ["front"]),
        ([exact(memory=-1, speed=2), exact(memory=-2, speed=1)], ["front", "behind"]),
        ([exact(memory=-2, speed=2), exact(memory=-1, speed=1)], ["front", "front"]),
        ([exact(memory=-1, speed=1)] * 2, ["front", "front"]),
        ([{"speed": about(10, 1)}, {"speed": about(9, 1)}], ["front", "front"]),
        ([{"speed": about(10, 1)}, {"speed": about(7, 1)}], ["front", "behind"]),
        (
            [{"speed": about(10, 1), **exact(memory=-1)}, {"speed": about(9, 1), **exact(memory=-2)}],
            ["front", "behind"],
        ),
        (
            [{"speed": about(9, 1), **exact(memory=-1)}, {"speed": about(10, 1), **exact(memory=-2)}],
            ["front", "front"],
        ),
        ([exact(memory=-1, speed=1), exact(memory=-2)], ["front", "open"]),
        ([exact(memory=-1), exact(memory=-2)], ["front", "behind"]),
        ([{}, {}], ["front", "front"]),
    ],
    ids=[
        "nobody",
        "alone",
        "worse in both",
        "each better in one",
        "the same in both",
        "speeds that overlap",
        "speeds that part",
        "smaller, and not shown slower: the larger one is beaten by its size",
        "smaller and by its value slower: both stay",
        "speed not measured",
        "speed measured of nobody",
        "nothing known of anybody",
    ],
)
def test_who_stands_on_the_front(points: list[Mapping[str, Mark]], standings: list[str]) -> None:
    assert [place.standing for place in front(points)] == standings


MARKS = st.builds(about, st.integers(-4, 4).map(float), st.integers(0, 2).map(float))
POINTS = st.lists(
    st.fixed_dictionaries({"memory": MARKS}, optional={"speed": MARKS, "quality": MARKS}), min_size=1, max_size=8
)


@SOME
@given(POINTS)
def test_the_front_has_nobody_beaten_and_each_left_out_is_beaten_by_one_on_it(points: list[dict[str, Mark]]) -> None:
    places = front(points)
    axes = sorted({axis for point in points for axis in point})
    whole = [n for n, point in enumerate(points) if len(point) == len(axes)]
    standing = [n for n, place in enumerate(places) if place.standing == "front"]
    assert bool(standing) is bool(whole)
    for n, place in enumerate(places):
        rivals = [m for m in whole if m != n and beats(points[m], points[n], axes)] if n in whole else []
        assert (place.standing == "open") is (n not in whole)
        assert (place.standing == "behind") is bool(rivals)
        assert list(place.behind) == rivals
        if rivals:
            seen, edge = set(rivals), list(rivals)
            while edge:
                edge = [m for k in edge for m in places[k].behind if m not in seen]
                seen |= set(edge)
            assert seen & set(standing), "following who is better leads to the front"
