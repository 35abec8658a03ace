"""The short way of a heap with one chunk gives what the heap gives, or says that it cannot."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qwenops.memory.allocator import Heap, OneChunk, OutgrownError

# a size is taken; a number below zero gives back one of the places that are taken
MOVES = st.lists(st.sampled_from([0, 16, 16, 32, 48, 64, 256]) | st.integers(-50, -1), max_size=60)


@given(MOVES, st.sampled_from([1 << 62, 1024]))
def test_one_chunk_lies_as_the_whole_heap_does(moves: list[int], limit: int) -> None:
    heap, one = Heap(16, limit), OneChunk(limit)
    taken: list[tuple[tuple[int, int], int]] = []
    for move in moves:
        try:
            if move >= 0:
                taken.append((heap.take(move), move))
                assert one.take(move) == taken[-1][0]
            elif taken:
                place = taken.pop(move % len(taken))
                heap.give_back(*place)
                one.give_back(*place)
        except OutgrownError:
            return
        assert one.snapshot() == heap.snapshot()
        assert OneChunk(limit, heap.snapshot()).snapshot() == heap.snapshot()


@given(MOVES)
def test_a_heap_goes_on_from_its_snapshot(moves: list[int]) -> None:
    heap = Heap(16, 256)
    taken: list[tuple[tuple[int, int], int]] = []
    for move in moves:
        again = Heap(16, 256, heap.snapshot())
        if move >= 0:
            taken.append((heap.take(move), move))
            assert again.take(move) == taken[-1][0]
        elif taken:
            place = taken.pop(move % len(taken))
            heap.give_back(*place)
            again.give_back(*place)
        assert again.snapshot() == heap.snapshot()
