"""Replays that were made before, by everything that decides what a graph looks like.

A search asks for the same placement at many contexts, for many quants of one model, and the runtime's fit for many
placements that come to the same graph. The context changes no more than sizes: what is taken and given back, and in
which order, stays. So a replay is kept as its tapes, and once three contexts were found on one line those between them
are played from the tapes with sizes that are interpolated, without building a graph.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Final

from qwenops.memory.allocator import Tape
from qwenops.memory.backends import OFFLOAD_ROWS, Backend
from qwenops.memory.graphs import GRAPHS
from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.graphs.dense import Granite, Mistral3, Phi3
from qwenops.memory.graphs.gemma import Gemma
from qwenops.memory.graphs.gpt_oss import GptOss
from qwenops.memory.graphs.hybrid import Hybrid, Qwen3Next
from qwenops.memory.graphs.pieces import Batch, Layout
from qwenops.memory.kv import CELL_PADDING
from qwenops.memory.shape import Shape
from qwenops.memory.weights import Weights

_KEPT: Final = 256  # structures; one has some 100 KiB
_ENOUGH: Final = 3  # contexts on one line

# builders whose blocks look at weights, backend and per-block fields of the shape alone, never at their own number
_BY_TRAITS: Final = frozenset({Decoder, Hybrid, Qwen3Next, Gemma, GptOss, Phi3, Granite, Mistral3})

Tapes = tuple[Tape, ...]
Slopes = list[list[tuple[int, int]]]  # of each tape: the places that grow with a step of cells, and by how many bytes


@dataclass(frozen=True)
class Structure:
    """What a graph is built and scheduled from, but for the cells of its cache (`batch.cells` is 0)."""

    shape: Shape
    batch: Batch
    layout: Layout
    weights: Weights
    backends: tuple[Backend, ...]
    copies: int

    def key(self, *, typed: bool) -> Hashable:
        """Equal for structures whose graphs take and give back alike; `typed` tells the types of weights apart.

        What the type of a weight changes is how large a copy of it is, and on a single device a weight that lies there
        is usually not copied.
        """
        layout, shape = self.layout, self.shape
        kinds = self.weights.kinds if typed or len(self.backends) > 2 else self.weights.outlines
        # norms are pinned where every layer is on a device, else only in small batches
        pinned = layout.pinned and (layout.full or self.batch.tokens < OFFLOAD_ROWS)
        rest = (shape, self.batch, layout.full, pinned, self.backends, self.copies)
        if GRAPHS.get(shape.architecture, Decoder) not in _BY_TRAITS or shape.sharing:
            return (*rest, kinds, tuple(layout.layer_backend), tuple(layout.blocks))
        traits, where = _traits(shape), layout.layer_backend
        blocks = tuple((kinds[i + 1], where[i], traits[i]) for i in layout.blocks)
        return (*rest, kinds[0], where[-1], blocks)


@lru_cache(maxsize=64)
def _traits(shape: Shape) -> tuple[Hashable, ...]:
    """What the shape says of each block."""
    listed = [v for f in fields(shape) if isinstance(v := getattr(shape, f.name), tuple) and len(v) == shape.layers]
    return tuple((shape.image_after(i) >= 0, *(values[i] for values in listed)) for i in range(shape.layers))


@dataclass(frozen=True)
class Recorded:
    """A replay: its tapes, the larger of which counts, and whether they depend on the types of weights on a device."""

    tapes: Tapes
    by_type: bool


class Replays:
    """Buffer peaks by structure and context."""

    def __init__(self) -> None:
        self._found: OrderedDict[Hashable, _Line | None] = OrderedDict()

    def peaks(
        self, structure: Structure, cells: int, record: Callable[[int], Recorded], *, reach: tuple[int, int]
    ) -> list[int]:
        """Bytes of each backend's buffer with `cells` cells, a multiple of 256.

        `record` replays the graph with a number of cells; it is called where nothing that was kept answers. `reach` are
        the least and the most cells with which it is the same structure.
        """
        key = structure.key(typed=False)
        if key in self._found and self._found[key] is None:
            key = structure.key(typed=True)
        line = self._found.get(key)
        peaks = line.peaks.get(cells) if line else None
        if peaks is not None:
            return peaks
        tapes = line.tapes_at(cells) if line else None
        if tapes is None and line is not None and line.reach_out(cells, reach, record):
            tapes = line.tapes_at(cells)
        if tapes is None:
            recorded = record(cells)
            tapes = recorded.tapes
            typed = structure.key(typed=True)
            if recorded.by_type and key != typed:
                self._keep(key, None)
                key, line = typed, self._found.get(typed)
            line = line or _Line()
            line.learn(cells, tapes)
        assert line is not None
        self._keep(key, line)
        played = [tape.play(structure.backends) for tape in tapes]
        peaks = line.peaks[cells] = [max(each) for each in zip(*played, strict=True)]
        return peaks

    def _keep(self, key: Hashable, line: _Line | None) -> None:
        self._found[key] = line
        self._found.move_to_end(key)
        if len(self._found) > _KEPT:
            self._found.popitem(last=False)


class _Line:
    """One structure at the contexts it was asked for.

    Sizes grow in proportion to the cells or, where something is capped, bend once and in one direction: a size with
    three points on one line has no bend between the outer two. Beyond those nothing is assumed.
    """

    def __init__(self) -> None:
        self.peaks: dict[int, list[int]] = {}
        self._points: dict[int, Tapes] = {}
        self._slopes: Slopes | None = None
        self._tried: set[int] = set()

    def learn(self, cells: int, tapes: Tapes) -> bool:
        """Keep what was replayed; whether it is on one line with what was there, enough of it for those between."""
        points = {**self._points, cells: tapes}
        if len(points) < _ENOUGH:
            self._points = points
            return False
        slopes = _slopes(points)
        if slopes is not None:
            between = sorted(points)[1]
            self._points = {n: points[n] for n in (min(points), between, max(points))}
            self._slopes = slopes
        elif self._slopes is None:
            self._points = {cells: tapes}  # begin again on this side of whatever is between
        return slopes is not None

    def reach_out(self, cells: int, reach: tuple[int, int], record: Callable[[int], Recorded]) -> bool:
        """Replay an end of the reach in place of `cells`, so that all between follows; whether that told something."""
        if len(self._points) < _ENOUGH - 1:
            return False
        end = reach[0] if cells < min(self._points) else reach[1] if cells > max(self._points) else cells
        if end == cells or end in self._tried:
            return False
        self._tried.add(end)
        before = self._points
        told = self.learn(end, record(end).tapes)
        if not told:
            self._points = before
        return told

    def tapes_at(self, cells: int) -> Tapes | None:
        """The tapes of a context between those that were replayed; None where they say nothing about it."""
        if self._slopes is None:
            return None
        low, high = min(self._points), max(self._points)
        if not low <= cells <= high:
            return None
        return _grown(self._points[low], self._slopes, (cells - low) // CELL_PADDING)


def _slopes(points: Mapping[int, Tapes]) -> Slopes | None:
    """What grows with a step of cells where the same graph was replayed at all points and they are on one line."""
    first, *between, last = sorted(points)
    steps = (last - first) // CELL_PADDING
    slopes = []
    for low, high in zip(points[first], points[last], strict=False):
        if low != replace(high, sizes=low.sizes):
            return None
        grown = [(i, b - a) for i, (a, b) in enumerate(zip(low.sizes, high.sizes, strict=True)) if a != b]
        if any(more % steps for _, more in grown):
            return None
        slopes.append([(i, more // steps) for i, more in grown])
    if len(points[first]) != len(points[last]):
        return None
    on_line = all(_grown(points[first], slopes, (n - first) // CELL_PADDING) == points[n] for n in between)
    return slopes if on_line else None


def _grown(low: Tapes, slopes: Slopes, steps: int) -> Tapes:
    grown = []
    for tape, places in zip(low, slopes, strict=True):
        sizes = tape.sizes.copy()
        for i, more in places:
            sizes[i] += more * steps
        grown.append(replace(tape, sizes=sizes))
    return tuple(grown)
