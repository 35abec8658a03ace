"""How large a compute buffer gets: a replay of ggml's graph allocator without the memory.

The runtime walks the graph once, gives each result the smallest free gap that holds it, lets some operations write over
a source nobody needs again, and frees a result after its last use. The highest byte ever used is the buffer's size, so
the same walk over the same shapes gives the same size. Rules as in ggml/src/ggml-alloc.c of llama.cpp b10434.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qwenops.memory.backends import Backend
from qwenops.memory.tensor import Tensor

# operations that may write over one of their sources
IN_PLACE: Final = frozenset(
    {"ADD", "ADD_ID", "SUB", "MUL", "DIV", "SCALE", "FILL", "UNARY", "ROPE", "RMS_NORM", "SOFT_MAX"}
)

_MAX_CHUNKS: Final = 16
_ENDLESS: Final = 1 << 62


class _Chunk:
    """One backend buffer: its gaps by address, the last one open-ended, and the highest byte used."""

    __slots__ = ("free", "peak")

    def __init__(self, size: int) -> None:
        self.free = [[0, size]]  # offset, size
        self.peak = 0


class Heap:
    """Gaps of one buffer type: best fit first, the open end last; a new chunk when the largest allowed is full."""

    def __init__(self, alignment: int, max_chunk: int) -> None:
        self.alignment = alignment
        self.max_chunk = max_chunk
        self.chunks: list[_Chunk] = []

    @property
    def peak_bytes(self) -> int:
        """What the buffers must hold together."""
        return sum(c.peak for c in self.chunks)

    def padded(self, size: int) -> int:
        """A size up to the next aligned one."""
        return -(-size // self.alignment) * self.alignment

    def take(self, size: int) -> tuple[int, int]:
        """Find a place; returns chunk and offset."""
        size = self.padded(size)
        where = self._best_gap(size) or self._open_end(size) or self._new_chunk(size)
        number, gap = where
        chunk = self.chunks[number]
        block = chunk.free[gap]
        offset = block[0]
        block[0] += size
        block[1] -= size
        if block[1] == 0:
            del chunk.free[gap]
        chunk.peak = max(chunk.peak, offset + size)
        return number, offset

    def _best_gap(self, size: int) -> tuple[int, int] | None:
        found = None
        for number, chunk in enumerate(self.chunks):
            best = _ENDLESS
            for gap in range(len(chunk.free) - 1):
                room = chunk.free[gap][1]
                if size <= room <= best:
                    found, best = (number, gap), room
        return found

    def _open_end(self, size: int) -> tuple[int, int] | None:
        # the end that need not grow, else the one that grows least
        found, best = None, -_ENDLESS
        for number, chunk in enumerate(self.chunks):
            if not chunk.free:
                continue
            offset, room = chunk.free[-1]
            spare = chunk.peak - offset - size
            better = (best < 0 and spare > best) or 0 <= spare < best
            if room >= size and better:
                found, best = (number, len(chunk.free) - 1), spare
        return found

    def _new_chunk(self, size: int) -> tuple[int, int]:
        last = len(self.chunks) == _MAX_CHUNKS - 1
        self.chunks.append(_Chunk(_ENDLESS if last else max(size, self.max_chunk)))
        return len(self.chunks) - 1, 0

    def give_back(self, address: tuple[int, int], size: int) -> None:
        """Free a place and join it with the gaps beside it."""
        size = self.padded(size)
        number, offset = address
        free = self.chunks[number].free
        for i, block in enumerate(free):
            if block[0] + block[1] == offset:
                block[1] += size
                if i + 1 < len(free) and block[0] + block[1] == free[i + 1][0]:
                    block[1] += free.pop(i + 1)[1]
                return
            if offset + size == block[0]:
                block[0] = offset
                block[1] += size
                if i > 0 and free[i - 1][0] + free[i - 1][1] == offset:
                    free[i - 1][1] += free.pop(i)[1]
                return
        at = 0
        while at < len(free) and free[at][0] < offset:
            at += 1
        free.insert(at, [offset, size])


class GraphAllocator:
    """Walks one scheduled graph; `peaks` holds the buffer size of each backend afterwards."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = backends
        self._heaps = [Heap(b.alignment, b.max_buffer_bytes) for b in backends]

    @property
    def peaks(self) -> list[int]:
        """Buffer bytes by backend."""
        return [h.peak_bytes for h in self._heaps]

    def run(self, leaves: Sequence[tuple[Tensor, int]], nodes: Sequence[tuple[Tensor, int]]) -> list[int]:
        """Allocate leaves, inputs, then every node in order; each comes with its backend."""
        for leaf, backend in leaves:
            self._allocate(leaf, backend)
        for node, backend in nodes:
            if node.view_of is not None and node.op != "NONE":
                node.view_of.views += 1
            if node.is_input:
                self._allocate(node, backend)
            for s in node.src:
                s.children += 1
                if s.is_input:
                    self._allocate(s, backend)
        for node, backend in nodes:
            for s in node.src:
                self._allocate(s, backend)
            self._allocate(node, backend)
            for s in node.src:
                self._release(s)
        return self.peaks

    def _size(self, t: Tensor, backend: int) -> int:
        return self._backends[backend].allocation_bytes(t)

    def _allocate(self, t: Tensor, backend: int) -> None:
        if t.allocated or t.place is not None or t.view_of is not None:
            return
        t.allocated = True
        if t.op in IN_PLACE and self._take_over_source(t, backend):
            return
        t.buffer = backend
        t.address = self._heaps[backend].take(self._size(t, backend))

    def _take_over_source(self, t: Tensor, backend: int) -> bool:
        for parent in t.src:
            if not parent.allocated:
                continue
            # a view never counts as allocated, so only whole tensors are taken over
            if parent.is_output:
                continue
            if parent.type != t.type or parent.ne != t.ne or parent.nb != t.nb:
                continue
            if parent.children != 1 or parent.views != 0:
                continue
            parent.allocated = False
            self._inherit(t, parent)
            return True
        return False

    def _inherit(self, t: Tensor, parent: Tensor) -> None:
        t.buffer, t.address = parent.buffer, parent.address
        heap = self._heaps[parent.buffer]
        had = heap.padded(self._size(parent, parent.buffer))
        needs = heap.padded(self._size(t, t.buffer))
        if had > needs:
            chunk, offset = t.address
            heap.give_back((chunk, offset + needs), had - needs)

    def _release(self, parent: Tensor) -> None:
        parent.children -= 1
        if parent.children or parent.views:
            return
        root = parent.view_of
        if root is None:
            if parent.allocated:
                self._free(parent)
            return
        root.views -= 1
        if root.views == 0 and root.children == 0 and root.allocated:
            self._free(root)

    def _free(self, t: Tensor) -> None:
        if t.is_output:
            return
        self._heaps[t.buffer].give_back(t.address, self._size(t, t.buffer))
        t.allocated = False
