"""Sizes for any number of cells, as one number: the graph is built with more cells than there ever are.

Cells come in steps of 256, and every size that they are part of grows in proportion to them. So with 256 * 2^80 cells a
size is a number of 2^80 (the bytes of a step) and a rest (the bytes that stay): one graph tells the sizes of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qwenops.memory.kv import CELL_PADDING
from qwenops.units import pad

_STEP: Final = 1 << 80  # the bytes of a step count as so many
_BEYOND: Final = _STEP >> 1  # more than anything has
ANY_CELLS: Final = CELL_PADDING * _STEP
ANY_STEPS: Final = _BEYOND


def steps_within(size: int, limit: int) -> int:
    """How many steps of cells there can be before a size is over a limit."""
    each, rest = _grown(size)
    return (limit - rest) // each if each else ANY_STEPS if rest <= limit else -1


class Sizes:
    """Sizes that were made with any number of cells: those that grow with them apart from those that stay.

    They are given back as multiples of `alignments`.
    """

    def __init__(self, sizes: Sequence[int], alignments: Sequence[int]) -> None:
        self._without_cells: list[int] = []
        self._growing: list[tuple[int, int, int, int]] = []
        for place, (size, alignment) in enumerate(zip(sizes, alignments, strict=True)):
            self._without_cells.append(pad(size, alignment) if size < _BEYOND else 0)
            if size >= _BEYOND:
                self._growing.append((place, *_grown(size), alignment))

    def at(self, steps: int) -> list[int]:
        """The sizes with so many steps of cells."""
        sizes = self._without_cells.copy()
        for place, each, rest, alignment in self._growing:
            sizes[place] = pad(each * steps + rest, alignment)
        return sizes


def _grown(size: int) -> tuple[int, int]:
    """The bytes of a step, and those that stay: less than none where the last row of a view ends before its stride."""
    each = (size + _BEYOND) // _STEP
    return each, size - each * _STEP
