"""Where things lie in a buffer, and how high they pile up: the gaps of ggml's graph allocator.

Rules as in ggml_dyn_tallocr of ggml/src/ggml-alloc.c, llama.cpp b10434: the smallest gap that holds it, else the open
end; a place that is given back is joined with the gaps beside it. `Heap` has them all; `OneChunk` is the same where one
chunk is enough, which is nearly always, and says so where it is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

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
            if len(chunks) > 1 or len(chunks[0]) < len(("peak", "offset", "room")):
                raise OutgrownError
            self.peak, *gaps, self.end, left = chunks[0]
            if self.end + left != max_chunk:
                raise OutgrownError
            self.offsets, self.rooms = gaps[::2], gaps[1::2]

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
