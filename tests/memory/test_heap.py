"""The short way of a heap with one chunk gives what the heap gives, or says that it cannot."""

from __future__ import annotations

from random import Random

import pytest

from qwenops.memory.heap import Heap, OneChunk, OutgrownError

WALKS = 800  # one in a hundred and fifty comes to places without bytes that lie inside of a gap


def walk(random: Random, heap: Heap, other: Heap | OneChunk) -> int:
    """Take and give back at random on both; how many moves were made before the other one was outgrown."""
    taken: list[tuple[tuple[int, int], int]] = []
    without_bytes = random.choice([0.1, 0.3, 0.5])
    for made in range(random.randint(5, 120)):
        try:
            if random.random() < 0.55 or not taken:
                size = 0 if random.random() < without_bytes else 16 * random.randint(1, 8)
                taken.append((heap.take(size), size))
                assert other.take(size) == taken[-1][0]
            else:
                place = taken.pop(random.randrange(len(taken)))
                heap.give_back(*place)
                other.give_back(*place)
        except OutgrownError:
            return made
        assert other.snapshot() == heap.snapshot()
    return 120


@pytest.mark.parametrize("limit", [1 << 62, 4096], ids=["endless", "four KiB"])
def test_one_chunk_lies_as_the_whole_heap_does(limit: int) -> None:
    moves = [walk(Random(seed), Heap(16, limit), OneChunk(limit)) for seed in range(WALKS)]
    assert sum(made == 120 for made in moves) > WALKS // 2


def test_one_chunk_goes_on_from_a_snapshot() -> None:
    heap = Heap(16, 1 << 62)
    places = [heap.take(size) for size in (64, 16, 32, 16)]
    heap.give_back(places[0], 64)
    heap.give_back(places[2], 32)
    one = OneChunk(1 << 62, heap.snapshot())
    assert one.snapshot() == heap.snapshot()
    assert [one.take(size) for size in (32, 48, 64)] == [heap.take(size) for size in (32, 48, 64)]


@pytest.mark.parametrize(
    "sizes",
    [(48, 48), (80,), (64,)],
    ids=["a second chunk", "a chunk as large as its only place", "a chunk that is full"],
)
def test_one_chunk_says_when_it_is_outgrown(sizes: tuple[int, ...]) -> None:
    *before, last = sizes
    heap, one = Heap(16, 64), OneChunk(64)
    assert [one.take(size) for size in before] == [heap.take(size) for size in before]
    heap.take(last)
    with pytest.raises(OutgrownError):
        one.take(last)
    with pytest.raises(OutgrownError):
        OneChunk(64, heap.snapshot())
