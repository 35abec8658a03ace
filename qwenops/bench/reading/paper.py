"""A sheet of grey paper: text and lines on it, and what happens to it afterwards, in whole numbers throughout."""

from __future__ import annotations

import io
import math
import random
from typing import TYPE_CHECKING, Final

import numpy as np

from qwenops.bench.reading.ink import Face, face

if TYPE_CHECKING:
    from PIL.Image import Image

_NO_START: Final = "，。；：！？、）》」"  # what no line of Chinese begins with
_ONE: Final = 1 << 16


class Paper:
    """Paper of so many pixels; `ink` and `ground` are greys, 0 black and 255 white."""

    def __init__(self, width: int, height: int, ink: int = 0, ground: int = 255) -> None:
        from PIL import Image

        self.image = Image.new("L", (width, height), ground)
        self.ink, self.ground = ink, ground

    def text(self, left: int, base: int, text: str, font: str, size: int) -> int:
        """Write one line from `left` on the line `base`; where the pen is then."""
        pen, letters = left, face(font)
        for character in text:
            mask, right, up, ahead = letters.letter(character, size)
            self.image.paste(self.ink, (pen + right, base - up), mask)
            pen += ahead
        return pen

    def right(self, edge: int, base: int, text: str, font: str, size: int) -> None:
        """Write one line that ends at `edge`."""
        self.text(edge - face(font).width(text, size), base, text, font, size)

    def centre(self, base: int, text: str, font: str, size: int) -> None:
        """Write one line in the middle."""
        self.text((self.image.width - face(font).width(text, size)) // 2, base, text, font, size)

    def rule(self, left: int, top: int, right: int, bottom: int) -> None:
        """Fill a thin box: a ruled line."""
        self.image.paste(self.ink, (left, top, right, bottom))

    def cropped(self, height: int) -> Image:
        """The sheet down to `height`."""
        return self.image.crop((0, 0, self.image.width, height))


def wrapped(text: str, font: str, size: int, width: int) -> list[str]:
    """Lines that are at most so wide; broken at blanks, or between characters where a script has none."""
    letters = face(font)
    pieces = list(text) if font == "chinese" else text.split(" ")
    glue = "" if font == "chinese" else " "
    lines, line = [], ""
    for piece in pieces:
        longer = line + glue + piece if line else piece
        if line and letters.width(longer, size) > width and piece not in _NO_START:
            lines.append(line)
            longer = piece
        line = longer
    return [*lines, line] if line else lines


def png(image: Image) -> bytes:
    """An 8-bit grey PNG. Equal pixels are what counts; its bytes are those of the zlib in use."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def noisy(image: Image, spread: int, seed: int) -> Image:
    """Grain added to every pixel: a sum of four whole numbers, so that it is the same on every machine."""
    # the legacy generator is the one whose stream numpy promises never to change (NEP 19)
    chance = np.random.RandomState(seed)
    grey = np.asarray(image, np.int32)
    grain = chance.randint(-spread, spread + 1, size=(4, *grey.shape)).sum(axis=0) // 2
    return _image(np.clip(grey + grain, 0, 255))


def blurred(image: Image, times: int) -> Image:
    """Every pixel mixed with its neighbours, 1-2-1 each way, so many times."""
    grey = np.asarray(image, np.int32)
    for _ in range(times):
        for axis in (0, 1):
            wide = np.pad(grey, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
            low, high = (np.take(wide, range(k, k + grey.shape[axis]), axis=axis) for k in (0, 2))
            grey = (low + 2 * grey + high + 2) // 4
    return _image(grey)


def compressed(image: Image, quality: int) -> Image:
    """What JPEG leaves of a picture."""
    from PIL import Image as Images

    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Images.open(io.BytesIO(file.getvalue())).convert("L")


def turned(image: Image, tenths: int, ground: int) -> Image:
    """Turned to the left by so many tenths of a degree, on a sheet that holds it all; between pixels bilinear."""
    angle = math.radians(tenths / 10)
    cos, sin = round(math.cos(angle) * _ONE), round(math.sin(angle) * _ONE)
    wide, high = image.size
    outer_w = (wide * abs(cos) + high * abs(sin)) // _ONE + 2
    outer_h = (wide * abs(sin) + high * abs(cos)) // _ONE + 2
    # doubled, so that the middles of both sheets are whole numbers
    across = 2 * np.arange(outer_w, dtype=np.int64)[None, :] - (outer_w - 1)
    down = 2 * np.arange(outer_h, dtype=np.int64)[:, None] - (outer_h - 1)
    x = (across * cos - down * sin) // 2 + (wide - 1) * _ONE // 2 + _ONE
    y = (across * sin + down * cos) // 2 + (high - 1) * _ONE // 2 + _ONE
    grey = np.full((high + 3, wide + 3), ground, np.int64)
    grey[1:-2, 1:-2] = np.asarray(image)
    inside = (x >= 0) & (y >= 0) & (x < (wide + 1) * _ONE) & (y < (high + 1) * _ONE)
    x, y = np.where(inside, x, 0), np.where(inside, y, 0)
    i, j, u, v = x >> 16, y >> 16, (x & (_ONE - 1)) >> 8, (y & (_ONE - 1)) >> 8
    upper = grey[j, i] * (256 - u) + grey[j, i + 1] * u
    lower = grey[j + 1, i] * (256 - u) + grey[j + 1, i + 1] * u
    return _image(np.where(inside, (upper * (256 - v) + lower * v + (1 << 15)) >> 16, ground))


def _image(grey: np.ndarray[tuple[int, ...], np.dtype[np.int32 | np.int64]]) -> Image:
    from PIL import Image as Images

    return Images.fromarray(grey.astype(np.uint8))


def chance_of(*words: object) -> random.Random:
    """A source of chance of its own for everything that is named: one thing more does not change the others."""
    return random.Random(":".join(map(str, words)))


__all__ = ["Face", "Paper", "blurred", "chance_of", "compressed", "noisy", "png", "turned", "wrapped"]
