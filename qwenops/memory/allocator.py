"""How large a compute buffer gets: a replay of ggml's graph allocator without the memory.

The runtime walks the graph once, gives each result the smallest free gap that holds it, lets some operations write over
a source nobody needs again, and frees a result after its last use. The highest byte ever used is the buffer's size, so
the same walk over the same shapes gives the same size. Rules as in ggml/src/ggml-alloc.c of llama.cpp b10434.

The walk is in two steps. What is taken and given back, and in which order, follows from the graph alone and is put on a
`Tape`; where it then lies, and so how high it piles up, is found by playing the tape. A tape can be played again with
other sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from qwenops.memory.backends import Backend
from qwenops.memory.heap import Heap
from qwenops.memory.tensor import Tensor

# operations that may write over one of their sources
IN_PLACE: Final = frozenset(
    {"ADD", "ADD_ID", "SUB", "MUL", "DIV", "SCALE", "SQR", "SQRT", "FILL", "UNARY", "ROPE", "RMS_NORM", "SOFT_MAX"}
)


@dataclass
class Tape:
    """What a graph takes and gives back, in order. Places are numbered; a place is taken once and may be given back.

    `moves` has the number of a place that is taken, or its complement (~number) where it is given back. `sizes` and
    `backends` say of each place how many bytes it has and whose buffer it is in. `cut` are places that were another one
    before (an operation that wrote over its source): what the other had beyond their own size is given back. `ends` are
    how many moves were made when each block was through, `copied` the places of copies of weights with their names,
    `ahead` the numbers of the blocks for which something is taken ahead of all blocks (in a pipeline).
    """

    moves: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    backends: list[int] = field(default_factory=list)
    cut: dict[int, int] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)
    copied: dict[int, str] = field(default_factory=dict)
    ahead: frozenset[int] = frozenset()

    def play(self, backends: Sequence[Backend], sizes: Sequence[int] | None = None) -> list[int]:
        """Buffer bytes of each backend; `sizes` in place of those of the tape."""
        heaps = [Heap(b.alignment, b.max_buffer_bytes) for b in backends]
        heap_of = [heaps[b] for b in self.backends]
        sizes = self.sizes if sizes is None else sizes
        address = [(0, 0)] * len(sizes)
        cut = self.cut
        for move in self.moves:
            if move < 0:
                heap_of[~move].give_back(address[~move], sizes[~move])
            elif move not in cut:
                address[move] = heap_of[move].take(sizes[move])
            else:
                heap, before = heap_of[move], cut[move]
                chunk, offset = address[move] = address[before]
                had, needs = heap.padded(sizes[before]), heap.padded(sizes[move])
                if had > needs:
                    heap.give_back((chunk, offset + needs), had - needs)
        return [h.peak_bytes for h in heaps]


class Recorder:
    """Walks one scheduled graph and writes the tape."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = backends
        self._tape = Tape()

    def record(self, leaves: Sequence[Tensor], nodes: Sequence[Tensor], ends: Sequence[Tensor] = ()) -> Tape:
        """Leaves, inputs, then every node in order; each knows its backend. `ends` is what each block gives."""
        last_of_block = {id(t) for t in ends}
        for leaf in leaves:
            if leaf.place is None:
                self._allocate(leaf, leaf.backend)
        for node in nodes:
            if node.view_of is not None and node.op != "NONE":
                node.view_of.views += 1
            if node.is_input:
                self._allocate(node, node.backend)
            for s in node.src:
                s.children += 1
                if s.is_input:
                    self._allocate(s, node.backend)
        for node in nodes:
            for s in node.src:
                if not s.allocated and s.view_of is None and s.place is None:
                    self._allocate(s, node.backend)
            if node.view_of is None:
                self._allocate(node, node.backend)
            for s in node.src:
                s.children -= 1
                if not s.children and not s.views:
                    self._release(s)
            if id(node) in last_of_block:
                self._tape.ends.append(len(self._tape.moves))
        return self._tape

    def _allocate(self, t: Tensor, backend: int) -> None:
        if t.allocated or t.place is not None or t.view_of is not None:
            return
        t.allocated = True
        if t.op in IN_PLACE and self._take_over_source(t):
            return
        t.handle = self._place(t, backend)
        self._tape.moves.append(t.handle)

    def _place(self, t: Tensor, backend: int) -> int:
        tape = self._tape
        place = len(tape.sizes)
        tape.sizes.append(self._backends[backend].allocation_bytes(t))
        tape.backends.append(backend)
        if t.name:
            tape.copied[place] = t.name
        return place

    def _take_over_source(self, t: Tensor) -> bool:
        for parent in t.src:
            # a view never counts as allocated, so only whole tensors are taken over
            if not parent.allocated or parent.is_output or parent.children != 1 or parent.views:
                continue
            if parent.ne != t.ne or parent.type != t.type or parent.nb != t.nb:
                continue
            parent.allocated = False
            self._inherit(t, parent)
            return True
        return False

    def _inherit(self, t: Tensor, parent: Tensor) -> None:
        tape = self._tape
        backend = tape.backends[parent.handle]
        if self._backends[backend].allocation_bytes(t) == tape.sizes[parent.handle]:
            t.handle = parent.handle
            return
        t.handle = self._place(t, backend)
        tape.cut[t.handle] = parent.handle
        tape.moves.append(t.handle)

    def _release(self, parent: Tensor) -> None:
        root = parent.view_of
        if root is None:
            if parent.allocated:
                self._free(parent)
            return
        root.views -= 1
        if root.views == 0 and root.children == 0 and root.allocated:
            self._free(root)

    def _free(self, t: Tensor) -> None:
        if not t.is_output:
            self._tape.moves.append(~t.handle)
            t.allocated = False
