"""How large a compute buffer gets: a replay of ggml's graph allocator without the memory.

The runtime walks the graph once, gives each result the smallest free gap that holds it, lets some operations write over
a source nobody needs again, and frees a result after its last use. The highest byte ever used is the buffer's size, so
the same walk over the same shapes gives the same size. Rules as in ggml/src/ggml-alloc.c of llama.cpp b10434.

The walk is in two steps. What is taken and given back, and in which order, follows from the graph alone and is put on a
`Tape`; where it then lies, and so how high it piles up, is found by playing the tape. A tape can be played again with
other sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from qwenops.memory.backends import Backend
from qwenops.memory.tensor import Tensor

# operations that may write over one of their sources
IN_PLACE: Final = frozenset(
    {"ADD", "ADD_ID", "SUB", "MUL", "DIV", "SCALE", "SQR", "SQRT", "FILL", "UNARY", "ROPE", "RMS_NORM", "SOFT_MAX"}
)

_MAX_CHUNKS: Final = 16
_ENDLESS: Final = 1 << 62


class _Chunk:
    """One backend buffer: its gaps by address, the last one open-ended, and the highest byte used."""

    __slots__ = ("free", "peak")

    def __init__(self, size: int, peak: int = 0) -> None:
        self.free = [[0, size]]  # offset, size
        self.peak = peak


class Heap:
    """Gaps of one buffer type: best fit first, the open end last; a new chunk when the largest allowed is full."""

    def __init__(self, alignment: int, max_chunk: int, chunks: Iterable[Sequence[int]] = ()) -> None:
        self.alignment = alignment
        self.max_chunk = max_chunk
        self.chunks: list[_Chunk] = []
        for peak, *gaps in chunks:
            chunk = _Chunk(0, peak)
            chunk.free = [[gaps[i], gaps[i + 1]] for i in range(0, len(gaps), 2)]
            self.chunks.append(chunk)

    def snapshot(self) -> tuple[tuple[int, ...], ...]:
        """Of each chunk: its peak, then offset and size of each gap; a heap can be made from it again."""
        return tuple((c.peak, *(n for gap in c.free for n in gap)) for c in self.chunks)

    @property
    def peak_bytes(self) -> int:
        """What the buffers must hold together."""
        return sum(c.peak for c in self.chunks)

    def padded(self, size: int) -> int:
        """A size up to the next aligned one."""
        return -(-size // self.alignment) * self.alignment

    def take(self, size: int) -> tuple[int, int]:
        """Find a place; returns chunk and offset."""
        size = -(-size // self.alignment) * self.alignment
        number, gap = self._best_gap(size) or self._open_end(size) or self._new_chunk(size)
        chunk = self.chunks[number]
        block = chunk.free[gap]
        offset = block[0]
        end = block[0] = offset + size
        block[1] -= size
        if not block[1]:
            del chunk.free[gap]
        if end > chunk.peak:
            chunk.peak = end
        return number, offset

    def _best_gap(self, size: int) -> tuple[int, int] | None:
        found = None
        for number, chunk in enumerate(self.chunks):
            best, last = _ENDLESS, len(chunk.free) - 1
            for gap, (_, room) in enumerate(chunk.free):
                if size <= room <= best and gap < last:
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
        size = -(-size // self.alignment) * self.alignment
        number, offset = address
        free = self.chunks[number].free
        end = offset + size
        # places without bytes leave gaps without bytes, even inside of others: no gap may be passed over
        for i, (start, room) in enumerate(free):
            if start + room == offset:
                free[i][1] = room + size
                if i + 1 < len(free) and end == free[i + 1][0]:
                    free[i][1] += free.pop(i + 1)[1]
                return
            if start == end:
                free[i] = [offset, room + size]
                return
        at = 0
        while at < len(free) and free[at][0] < offset:
            at += 1
        free.insert(at, [offset, size])


class OutgrownError(Exception):
    """One chunk is not enough, or its open end is no longer the last of its gaps: a whole heap must go on from here."""


class OneChunk:
    """A heap as long as one chunk is enough for it, which is nearly always: the same rules with less to look at.

    The gaps are kept by address, the open end, which begins at `end`, apart from them. `chunks` are a heap's as its
    snapshot has them; OutgrownError where a whole heap is needed for them, or for what comes.
    """

    __slots__ = ("begun", "end", "limit", "offsets", "peak", "rooms")

    def __init__(self, max_chunk: int, chunks: Sequence[Sequence[int]] = ()) -> None:
        self.begun, self.limit = bool(chunks), max_chunk
        self.peak = self.end = 0
        self.offsets: list[int] = []
        self.rooms: list[int] = []
        if chunks:
            self.peak, *gaps, self.end, left = chunks[0]
            self.offsets, self.rooms = gaps[::2], gaps[1::2]
            if len(chunks) > 1 or self.end + left != max_chunk:
                raise OutgrownError

    def snapshot(self) -> tuple[tuple[int, ...], ...]:
        """As Heap.snapshot."""
        if not self.begun:
            return ()
        gaps = (n for gap in zip(self.offsets, self.rooms, strict=True) for n in gap)
        return ((self.peak, *gaps, self.end, self.limit - self.end),)

    def take(self, size: int) -> tuple[int, int]:
        """Find a place for an aligned size; returns chunk and offset."""
        found, best = -1, _ENDLESS
        for gap, room in enumerate(self.rooms):
            if size <= room <= best:
                found, best = gap, room
        if found < 0:
            self.begun, offset = True, self.end
            end = self.end = offset + size
            if end >= self.limit:
                raise OutgrownError
            if end > self.peak:
                self.peak = end
            return 0, offset
        offset = self.offsets[found]
        if best == size:
            del self.offsets[found], self.rooms[found]
        else:
            self.offsets[found] = offset + size
            self.rooms[found] = best - size
        return 0, offset

    def give_back(self, address: tuple[int, int], size: int) -> None:
        """Free a place and join it with the gaps beside it."""
        offsets, rooms, offset = self.offsets, self.rooms, address[1]
        end, last = offset + size, len(rooms) - 1
        for gap, start in enumerate(offsets):
            room = rooms[gap]
            if start + room == offset:
                if gap == last:
                    if end == self.end:
                        self.end = offsets.pop()
                        rooms.pop()
                        return
                elif end == offsets[gap + 1]:
                    size += rooms.pop(gap + 1)
                    del offsets[gap + 1]
                rooms[gap] = room + size
                return
            if start == end:
                offsets[gap] = offset
                rooms[gap] = room + size
                return
        if end == self.end:
            self.end = offset
        elif end > self.end:
            raise OutgrownError
        else:
            # what has no bytes can lie inside of a gap, and be passed by its start: no order to rely on
            gap = next((i for i, start in enumerate(offsets) if start >= offset), len(offsets))
            offsets.insert(gap, offset)
            rooms.insert(gap, size)


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
