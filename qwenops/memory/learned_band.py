"""Bands from the history's own errors: how far predictions of the same kind were off when the load came.

A past load is comparable when it is of the same architecture, on the same kind of devices, by the same runtime build,
kept its layers and projector where they were planned, and each of its parts was predicted by the same rung. Its errors
are carried over part by part: an error beyond rounding grows with the part (compute off by 3 % there is 3 % of the
compute here), and is never taken for less than it was. Their sum is one scenario of how far this total may be off.

Every scenario lies inside the band, so one bad load widens it at once. It gets narrower than stated only when at least
`ENOUGH_LOADS` different loads (model and settings) are comparable: then the interval from the lowest to the highest of
n independent errors contains 98 % of all with a confidence of 95 %, whatever their distribution (Wilks 1941: the
coverage between extremes is Beta(n - 1, 2), and 1 - n p^(n-1) + (n - 1) p^n reaches 0.95 for p = 0.98 at n = 236).
Never narrower than what rounding alone can do, and never for rungs whose stated band is rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from qwenops.memory.types import Band, Need
from qwenops.units import MIB

if TYPE_CHECKING:
    from qwenops.history import LoadRow

PARTS: Final = ("weights", "kv", "state", "compute", "projector")
"""What a load shows at the size for which it was predicted; the encoder is predicted for the largest image."""
ENOUGH_LOADS: Final = 236
FLOOR_BELOW_BYTES: Final = 2 * MIB
FLOOR_ABOVE_BYTES: Final = MIB
_NARROWED: Final = frozenset({"closed form", "dry load"})
# Rounding is no error: the log has hundredths of a MiB a buffer, and the floors hold more than all of its parts. The
# runtime's table has whole MiB: what lies inside does not grow with the part.
_ROUNDING_BYTES: Final = MIB // 16
_TABLE_ROUNDING_BYTES: Final = MIB


@dataclass(frozen=True)
class LoadError:
    """One prediction beside its load: bytes on all devices by part, the rung of each part, and what they are of."""

    build: str
    architecture: str
    kinds: tuple[str, ...]
    load: tuple[str, str]
    rung: str
    sources: Mapping[str, str]
    predicted: Mapping[str, int]
    measured: Mapping[str, int]

    def off_bytes(self, part: str) -> int:
        """By how much a part was more than predicted."""
        return self.measured[part] - self.predicted[part]


def errors_in(row: LoadRow) -> Iterator[LoadError]:
    """What a row of the history says of each rung that predicted it; nothing where the load went another way."""
    for predicted in (row.predicted, *(row.predicted.get("also") or ())):
        try:
            if error := _error(row, predicted):
                yield error
        except (KeyError, TypeError, AttributeError):
            continue  # a row of an older form


def _error(row: LoadRow, predicted: Mapping[str, Any]) -> LoadError | None:
    measured = row.measured
    if measured is None or not predicted["devices"] or predicted["layers"] != measured["layers"]:
        return None
    planned, seen = _by_part(predicted["devices"]), _by_part(measured["devices"])
    if any(d["draft_bytes"] for d in predicted["devices"]) or bool(planned["projector"]) != bool(seen["projector"]):
        return None
    return LoadError(
        build=row.runtime_build,
        architecture=predicted["model"]["architecture"],
        kinds=_kinds(d["kind"] for d in predicted["devices"]),
        load=(row.model_key, row.settings_key),
        rung=predicted["rung"],
        sources=predicted["sources"],
        predicted=planned,
        measured=seen,
    )


def _by_part(devices: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {part: sum(int(d[f"{part}_bytes"]) for d in devices) for part in PARTS}


def _kinds(kinds: Iterator[str]) -> tuple[str, ...]:
    return tuple(sorted(set(kinds)))


@dataclass(frozen=True)
class Experience:
    """All comparable errors: what they are of, how many loads there were, and the extreme ones among them.

    `sources` are the parts that were there, with the rung of each. `above` and `below` hold what of the errors can be
    the highest or the lowest of a total, whatever the sizes of its parts.
    """

    architecture: str
    kinds: tuple[str, ...]
    sources: Mapping[str, str]
    loads: frozenset[tuple[str, str]]
    above: tuple[_Errors, ...]
    below: tuple[_Errors, ...]


@dataclass(frozen=True)
class _Error:
    """A part's error beside what had been predicted (0: it came unforeseen); `grows` with the part, or is rounding."""

    off: int
    predicted: int
    grows: bool

    def carried(self, size_bytes: int) -> tuple[int, int]:
        """(lowest, highest) that it can mean for a part of this size: as it was, and grown with the part."""
        if not self.predicted:
            return min(0, self.off), max(0, self.off)
        if not size_bytes:
            return 0, 0
        grown = self.off * size_bytes if self.grows else 0
        return min(self.off, grown // self.predicted), max(self.off, -(-grown // self.predicted))

    def is_above(self, other: _Error) -> bool:
        """Whether it is never less than another one, at any size."""
        ours = self.off * other.predicted if self.grows else 0
        return self.off >= other.off and ours >= (other.off * self.predicted if other.grows else 0)


_Errors = tuple[_Error, ...]


def experience_of(errors: Sequence[LoadError]) -> tuple[Experience, ...]:
    """Past errors in groups of comparable ones; a thousand loads that went as predicted become one figure."""
    groups: dict[tuple[Any, ...], list[LoadError]] = {}
    for error in errors:
        there = tuple((part, error.sources.get(part, "")) for part in PARTS if error.predicted[part])
        groups.setdefault((error.architecture, error.kinds, there), []).append(error)
    found = []
    for (architecture, kinds, there), group in groups.items():
        different = dict.fromkeys(tuple(_part_error(error, part) for part in PARTS) for error in group)
        found.append(
            Experience(
                architecture=architecture,
                kinds=kinds,
                sources=dict(there),
                loads=frozenset(error.load for error in group),
                above=_front(different, lambda one, other: one.is_above(other)),
                below=_front(different, lambda one, other: other.is_above(one)),
            )
        )
    return tuple(found)


def _part_error(error: LoadError, part: str) -> _Error:
    off, predicted = error.off_bytes(part), error.predicted[part]
    if abs(off) <= _ROUNDING_BYTES:
        return _Error(0, 1 if predicted else 0, False)
    table = error.sources.get(part) == "runtime" and abs(off) <= _TABLE_ROUNDING_BYTES
    return _Error(off, predicted, bool(predicted) and not table)


def _front(candidates: Iterable[_Errors], beats: Callable[[_Error, _Error], bool]) -> tuple[_Errors, ...]:
    """Those that no other one beats in every part."""
    front: list[_Errors] = []
    for one in candidates:
        if not any(all(beats(a, b) for a, b in zip(kept, one, strict=True)) for kept in front):
            front = [k for k in front if not all(beats(a, b) for a, b in zip(one, k, strict=True))]
            front.append(one)
    return tuple(front)


def learned_band(answer: Need, architecture: str, experience: Sequence[Experience]) -> Band:
    """The band of an answer, in bytes, after what loads of its kind have shown; as stated where none are comparable."""
    stated, total = answer.band, answer.total_device_bytes
    parts = {part: sum(getattr(d, f"{part}_bytes") for d in answer.devices) for part in PARTS}
    kinds = _kinds(d.kind for d in answer.devices)
    comparable = [
        e
        for e in experience
        if e.architecture == architecture and e.kinds == kinds and _speaks_for(e, parts, answer.sources)
    ]
    if not comparable or any(d.draft_bytes for d in answer.devices):
        return stated
    sizes = tuple(parts.values())
    below = min(_scenario(errors, sizes, 0) for e in comparable for errors in e.below)
    above = max(_scenario(errors, sizes, 1) for e in comparable for errors in e.above)
    # What no load shows (the encoder at its largest) keeps its share of the stated width.
    share = total - sum(sizes)
    low = total + min(0, below) - FLOOR_BELOW_BYTES - _share(total - stated.low, share, total)
    high = total + max(0, above) + FLOOR_ABOVE_BYTES + _share(stated.high - total, share, total)
    loads = frozenset().union(*(e.loads for e in comparable))
    if answer.rung in _NARROWED and len(loads) >= ENOUGH_LOADS:
        return Band(max(0, low), high)
    return Band(max(0, min(stated.low, total + below)), max(stated.high, total + above))


def _speaks_for(experience: Experience, parts: Mapping[str, int], sources: Mapping[str, str]) -> bool:
    """Whether every part of the answer was there in those loads, predicted by the same rung."""
    return all(
        part in experience.sources and experience.sources[part] == sources.get(part, "")
        for part, size in parts.items()
        if size
    )


def _scenario(errors: _Errors, sizes: Sequence[int], edge: int) -> int:
    return sum(error.carried(size)[edge] for error, size in zip(errors, sizes, strict=True))


def _share(width: int, part: int, total: int) -> int:
    return -(-max(0, width) * max(0, part) // max(1, total))
