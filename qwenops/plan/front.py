"""The Pareto front: the variants of which no other is at least as good in everything and shown better in something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Standing = Literal["front", "behind", "open"]


@dataclass(frozen=True)
class Mark:
    """A figure on one axis, more is better, with where it lies; both ends are the value where it is exact."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Place:
    """Where a variant stands: on the front, behind others (by their numbers), or open since a figure is missing."""

    standing: Standing
    behind: tuple[int, ...] = ()


def front(points: Sequence[Mapping[str, Mark]]) -> tuple[Place, ...]:
    """Where each point stands, by its marks on every axis that any of them has.

    A point that lacks an axis neither beats another nor is beaten: what is not measured may be anything. Of two that
    are the same in everything both stand on the front. The order "beats" is without circles, since it asks for values
    that are nowhere worse; so what is behind is behind one that stands on the front.
    """
    axes = sorted({axis for point in points for axis in point})
    whole = [n for n, point in enumerate(points) if all(axis in point for axis in axes)]
    places = []
    for n, point in enumerate(points):
        if n not in whole:
            places.append(Place("open"))
            continue
        better = tuple(m for m in whole if beats(points[m], point, axes))
        places.append(Place("behind" if better else "front", better))
    return tuple(places)


def beats(ours: Mapping[str, Mark], theirs: Mapping[str, Mark], axes: Sequence[str]) -> bool:
    """Whether one point is nowhere worse by its values, and shown better on an axis: the two intervals part there."""
    nowhere_worse = all(ours[axis].value >= theirs[axis].value for axis in axes)
    return nowhere_worse and any(ours[axis].low > theirs[axis].high for axis in axes)
