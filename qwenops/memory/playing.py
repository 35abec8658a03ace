"""Playing parts of tapes: what lies where after each of them, remembered, so that nothing is played twice.

The same blocks on the same gaps leave the same gaps. Most blocks of a model, and most of the placements that a fit asks
for, begin with what was played before.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwenops.memory.backends import Backend
from qwenops.memory.heap import Heap, OneChunk, OutgrownError
from qwenops.memory.parts import Part

_KEPT = 8192  # states and steps; one has a few KiB

Address = tuple[int, tuple[int, int], int]  # backend, chunk and offset, bytes
Chunks = tuple[tuple[int, ...], ...]  # of a heap, as Heap.snapshot gives them


class Step:
    """A part with the aligned sizes of its own places.

    `moves` are those of the part; beside a number that is taken are its size, its backend, and the number of the place
    that it was before (-1 for none).
    """

    __slots__ = ("left", "moves")

    def __init__(self, part: Part, sizes: Sequence[int]) -> None:
        before, first = dict(part.cut), part.alive
        self.left = part.left
        self.moves = [
            (move, 0, 0, -1)
            if move < 0
            else (move, sizes[move - first], part.backends[move - first], before.get(move, -1))
            for move in part.moves
        ]


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
        self._alignments = [b.alignment for b in backends]
        self._limits = [b.max_buffer_bytes for b in backends]
        self._forget()

    def _forget(self) -> None:
        self._steps: dict[tuple[Part, tuple[int, ...]], Step] = {}
        self._states: dict[tuple[tuple[Chunks, ...], tuple[Address, ...]], _State] = {}
        self._begin = self._state(((),) * len(self._limits), ())

    def step(self, part: Part, sizes: tuple[int, ...]) -> Step:
        """The one step of a part with these aligned sizes."""
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
        try:
            return self._moved(state, step, [OneChunk(b, c) for b, c in zip(self._limits, state.heaps, strict=True)])
        except OutgrownError:
            whole = zip(self._alignments, self._limits, state.heaps, strict=True)
            return self._moved(state, step, [Heap(*each) for each in whole])

    def _moved(self, state: _State, step: Step, heaps: Sequence[Heap | OneChunk]) -> _State:
        takes, gives = [heap.take for heap in heaps], [heap.give_back for heap in heaps]
        alive = list(state.alive)
        found = alive.append
        for move, size, backend, before in step.moves:
            if move < 0:
                backend, address, size = alive[~move]
                gives[backend](address, size)
            elif before < 0:
                found((backend, takes[backend](size), size))
            else:
                backend, address, had = alive[before]
                if had > size:
                    gives[backend]((address[0], address[1] + size), had - size)
                found((backend, address, size))
        return self._state(tuple([heap.snapshot() for heap in heaps]), tuple([alive[i] for i in step.left]))
