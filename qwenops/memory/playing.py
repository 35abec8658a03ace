"""Playing parts of tapes: what lies where after each of them, remembered, so that nothing is played twice.

The same blocks on the same gaps leave the same gaps. Most blocks of a model, and most of the placements that a fit asks
for, begin with what was played before.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwenops.memory.allocator import Heap
from qwenops.memory.backends import Backend
from qwenops.memory.parts import Part

_KEPT = 8192  # states and steps; one has a few KiB

Address = tuple[int, int, int, int]  # backend, chunk, offset, bytes
Chunks = tuple[tuple[int, ...], ...]  # of a heap, as Heap.snapshot gives them


class Step:
    """A part with the sizes of its own places."""

    __slots__ = ("part", "sizes")

    def __init__(self, part: Part, sizes: tuple[int, ...]) -> None:
        self.part = part
        self.sizes = sizes


class _State:
    """The gaps of every heap, the addresses of what is alive, and what came of the steps that were taken from here."""

    __slots__ = ("after", "alive", "heaps")

    def __init__(self, heaps: tuple[Chunks, ...], alive: tuple[Address, ...]) -> None:
        self.heaps = heaps
        self.alive = alive
        self.after: dict[Step, _State] = {}


class Player:
    """Plays steps on the heaps of some backends."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = tuple(backends)
        self._forget()

    def _forget(self) -> None:
        self._steps: dict[tuple[Part, tuple[int, ...]], Step] = {}
        self._states: dict[tuple[tuple[Chunks, ...], tuple[Address, ...]], _State] = {}
        self._begin = self._state(((),) * len(self._backends), ())

    def step(self, part: Part, sizes: tuple[int, ...]) -> Step:
        """The one step of a part with these sizes."""
        key = (part, sizes)
        found = self._steps.get(key)
        if found is None:
            found = self._steps[key] = Step(part, sizes)
        return found

    def peaks(self, steps: Sequence[Step]) -> list[int]:
        """Bytes of each backend's buffer after these steps."""
        if max(len(self._states), len(self._steps)) > _KEPT:
            self._forget()
        state = self._begin
        for step in steps:
            after = state.after.get(step)
            if after is None:
                after = state.after[step] = self._played(state, step)
            state = after
        return [sum(chunk[0] for chunk in chunks) for chunks in state.heaps]

    def _state(self, heaps: tuple[Chunks, ...], alive: tuple[Address, ...]) -> _State:
        key = (heaps, alive)
        found = self._states.get(key)
        if found is None:
            found = self._states[key] = _State(heaps, alive)
        return found

    def _played(self, state: _State, step: Step) -> _State:
        heaps = [
            Heap(b.alignment, b.max_buffer_bytes, chunks) for b, chunks in zip(self._backends, state.heaps, strict=True)
        ]
        part, sizes = step.part, step.sizes
        first, backends, cut = part.alive, part.backends, dict(part.cut)
        address = list(state.alive)
        for move in part.moves:
            if move < 0:
                backend, chunk, offset, size = address[~move]
                heaps[backend].give_back((chunk, offset), size)
                continue
            size = sizes[move - first]
            if move not in cut:
                backend = backends[move - first]
                chunk, offset = heaps[backend].take(size)
            else:
                backend, chunk, offset, had = address[cut[move]]
                heap = heaps[backend]
                needs = heap.padded(size)
                if heap.padded(had) > needs:
                    heap.give_back((chunk, offset + needs), heap.padded(had) - needs)
            address.append((backend, chunk, offset, size))
        return self._state(tuple(heap.snapshot() for heap in heaps), tuple(address[i] for i in part.left))
