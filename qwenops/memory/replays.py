"""Replays that were made before, by everything that decides what a graph looks like.

A search asks for the same placement at many contexts and for many quants of one model. Neither changes what is taken
and given back, and in which order: more cells and other types of weights are other sizes. So a replay is kept as its
tapes, whose sizes hold for any number of cells, and played with those of the question.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Final

from qwenops.memory import tensor as tf
from qwenops.memory.allocator import Tape
from qwenops.memory.backends import OFFLOAD_ROWS, Backend
from qwenops.memory.cells import Sizes
from qwenops.memory.graphs import GRAPHS
from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.graphs.pieces import Batch, Layout
from qwenops.memory.shape import Shape
from qwenops.memory.weights import Weights

KEPT: Final = 256  # structures; one has some 100 KiB
_KEPT_PEAKS: Final = 16 * KEPT


@dataclass(frozen=True)
class Structure:
    """What a graph is built and scheduled from, but for the cells of its cache (`batch.cells` are any)."""

    shape: Shape
    batch: Batch
    layout: Layout
    weights: Weights
    backends: tuple[Backend, ...]
    copies: int

    @property
    def placed(self) -> Hashable:
        """Equal for structures that are alike block by block, whatever types their weights have."""
        return (self._rest, self.weights.forms, self.layout.layer_backend)

    @property
    def word(self) -> list[Hashable]:
        """A letter for every block: equal where the blocks are alike, whatever types their weights have."""
        forms, where, traits, shape = self.weights.forms, self.layout.layer_backend, _traits(self.shape), self.shape
        return [(forms[i + 1], where[i], where[shape.cache_of(i)], traits[i]) for i in range(shape.trunk_layers)]

    def skeleton(self, letters: Hashable, repeats: Hashable) -> Hashable:
        """Equal for structures of the same ends and borders; `letters` are the blocks that are kept."""
        return (self._rest, self.weights.forms[0], self.layout.layer_backend[-1], letters, repeats)

    @cached_property
    def _rest(self) -> Hashable:
        # norms are pinned where every layer is on a device, else only in small batches
        pinned = self.layout.pinned and (self.layout.full or self.batch.tokens < OFFLOAD_ROWS)
        return (self.shape, self.batch, self.layout.full, pinned, self.backends, self.copies)

    def copy_bytes(self, name: str, backend: int) -> int:
        """Bytes of a copy of a weight on a backend."""
        found = self.weights.placed(name)
        assert found is not None
        weight, _ = found
        return _copy_bytes(self.backends[backend], weight.type, weight.shape)


@lru_cache(maxsize=64)
def _traits(shape: Shape) -> tuple[Hashable, ...]:
    """What the shape says of each block, and what the family's builder makes of its number."""
    listed = [v for f in fields(shape) if isinstance(v := getattr(shape, f.name), tuple) and len(v) == shape.layers]
    period = GRAPHS.get(shape.architecture, Decoder).period
    rescaled = shape.rescaled_every or shape.layers + 1
    return tuple(
        (
            i == shape.trunk_layers - 1,  # it keeps the wanted rows alone
            i % period,
            (i + 1) % rescaled == 0,
            i < shape.sparse_blocks,
            i >= shape.layers - shape.sharing,
            shape.image_after(i) >= 0,
            *(values[i] for values in listed),
        )
        for i in range(shape.trunk_layers)
    )


@lru_cache(maxsize=1024)
def _copy_bytes(backend: Backend, type_: int, shape: tuple[int, ...]) -> int:
    return backend.allocation_bytes(tf.leaf(type_, *shape))


@dataclass(frozen=True)
class Recorded:
    """A replay: its tapes, the larger of which counts, and with how many steps of cells the same is done."""

    tapes: tuple[Tape, ...]
    least_steps: int
    most_steps: int

    def holds_at(self, steps: int) -> bool:
        """Whether so many steps of cells change no more than sizes."""
        return self.least_steps <= steps <= self.most_steps


Record = Callable[[Sequence[int]], Recorded]  # replays the graph of some blocks


class Replays:
    """Buffer peaks by structure."""

    def __init__(self) -> None:
        self._recorded: OrderedDict[Hashable, list[Recorded]] = OrderedDict()
        self._played: OrderedDict[Hashable, list[int]] = OrderedDict()

    def peaks(self, structure: Structure, steps: int, record: Record) -> list[int]:
        """Bytes of each backend's buffer with so many steps of 256 cells; `record` is called for what was not met."""
        key = structure.placed
        recorded = self._recording(key, steps, lambda: record(structure.layout.blocks))
        copied = any(tape.copied for tape in recorded.tapes)
        question = (key, steps, structure.weights.kinds if copied else None)
        peaks = self._played.get(question)
        if peaks is None:
            played = [tape.play(structure.backends, _sizes(tape, structure, steps)) for tape in recorded.tapes]
            peaks = self._played[question] = [max(each) for each in zip(*played, strict=True)]
            if len(self._played) > _KEPT_PEAKS:
                self._played.popitem(last=False)
        return peaks

    def _recording(self, key: Hashable, steps: int, record: Callable[[], Recorded]) -> Recorded:
        kept = self._recorded.get(key, [])
        found = next((each for each in kept if each.holds_at(steps)), None)
        if found is None:
            found = record()
            self._recorded[key] = [*kept, found]
            if len(self._recorded) > KEPT:
                self._recorded.popitem(last=False)
        return found


def _sizes(tape: Tape, structure: Structure, steps: int) -> list[int]:
    sizes = Sizes(tape.sizes, [structure.backends[b].alignment for b in tape.backends]).at(steps)
    for place, name in tape.copied.items():
        sizes[place] = structure.copy_bytes(name, tape.backends[place])
    return sizes
