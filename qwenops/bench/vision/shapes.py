"""Coloured shapes on a sheet, filled in whole numbers, so that a scene is the same pixels everywhere."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

SHAPES: Final = ("circle", "square", "triangle")
COLOURS: Final = {
    "red": (214, 40, 40),
    "blue": (38, 84, 200),
    "green": (30, 150, 70),
    "yellow": (240, 196, 25),
    "black": (20, 20, 20),
}
_FINE: Final = 4  # samples a pixel, each way
WIDTH, HEIGHT = 640, 480


@dataclass(frozen=True)
class Thing:
    """One shape: its colour, the left and upper edge of its box, and the box's side, in pixels."""

    shape: str
    colour: str
    left: int
    top: int
    side: int

    @property
    def name(self) -> str:
        """What it is called: "red circle"."""
        return f"{self.colour} {self.shape}"

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, upper, right and lower edge."""
        return self.left, self.top, self.left + self.side, self.top + self.side


def places(chance: random.Random, count: int, sides: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Left edge, upper edge and side of so many boxes that do not touch: one a field of a grid, not in its middle."""
    columns, rows = (4, 3) if count <= 12 else (6, 4)
    wide, high = WIDTH // columns, HEIGHT // rows
    fields = chance.sample([(c, r) for c in range(columns) for r in range(rows)], count)
    found = []
    for column, row in fields:
        side = chance.randint(*(min(s, wide - 12, high - 12) for s in sides))
        left = column * wide + chance.randint(6, wide - side - 6)
        found.append((left, row * high + chance.randint(6, high - side - 6), side))
    return found


def picture(things: list[Thing]) -> bytes:
    """The things on a light sheet, as a PNG."""
    from PIL import Image as Images

    sheet = Images.new("RGB", (WIDTH, HEIGHT), (245, 245, 242))
    for thing in things:
        sheet.paste(COLOURS[thing.colour], (thing.left, thing.top), _mask(thing.shape, thing.side))
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


@cache
def _mask(shape: str, side: int) -> Image:
    """How much of each pixel of its box a shape covers."""
    from PIL import Image as Images

    fine = side * _FINE
    # the middles of the samples, doubled, from the middle of the box: odd whole numbers
    across = 2 * np.arange(fine, dtype=np.int64)[None, :] + 1 - fine
    down = 2 * np.arange(fine, dtype=np.int64)[:, None] + 1 - fine
    inside: Any = np.ones((fine, fine), bool)
    if shape == "circle":
        inside = across * across + down * down <= fine * fine
    elif shape == "triangle":
        inside = 2 * abs(across) <= down + fine
    covered = inside.reshape(side, _FINE, side, _FINE).sum(axis=(1, 3)) * 255 // _FINE**2
    return Images.fromarray(covered.astype(np.uint8))
