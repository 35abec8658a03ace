"""Letters from font outlines, filled here and not by a font engine, so that a page is the same pixels everywhere.

FreeType draws the same letter differently from version to version (2.13 and 2.14 move some by a pixel). The outlines
are flattened and filled by signed areas: a segment adds to each pixel the area that lies to its right, and the running
sum along a row is what the shape covers. The method is Raph Levien's for font-rs; no hinting, whole pixels ahead.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from qwenops.errors import PartMissing

if TYPE_CHECKING:
    from PIL.Image import Image

INSTALL: Final = "pip install 'qwenops[bench]'"
FACES: Final = ("sans", "sans-bold", "humanist", "humanist-bold", "mono", "typewriter", "chinese")
_LATIN: Final = {
    "sans": "notos",
    "sans-bold": "notosbo",
    "humanist": "ubuntu",
    "humanist-bold": "ubuntubo",
    "mono": "ubuntm",
    "typewriter": "spacemo",
}
_SIMPLIFIED: Final = 2  # of the collection's faces: Japanese, Korean, simplified Chinese, ...
_FLAT: Final = 6  # segments a curve is cut into

Point = tuple[float, float]


class Face:
    """One font at any size. `covers` says which characters it has; sizes are pixels an em."""

    def __init__(self, font: Any) -> None:
        self._map: dict[int, str] = font.getBestCmap()
        self._glyphs = font.getGlyphSet()
        self._em = int(font["head"].unitsPerEm)
        self._letters: dict[tuple[str, int], tuple[Image, int, int, int]] = {}

    def covers(self, text: str) -> bool:
        """Whether every character of a text is in the font; a line end is nobody's."""
        return all(ord(c) in self._map for c in text if c != "\n")

    def width(self, text: str, size: int) -> int:
        """How far a text goes, in pixels."""
        return sum(self.letter(c, size)[3] for c in text)

    def letter(self, character: str, size: int) -> tuple[Image, int, int, int]:
        """A letter as a mask of its ink, its place to the right of and above the pen, and how far the pen goes on."""
        found = self._letters.get((character, size))
        if found is None:
            found = self._letters[character, size] = self._drawn(character, size)
        return found

    def _drawn(self, character: str, size: int) -> tuple[Image, int, int, int]:
        from PIL import Image

        glyph = self._glyphs[self._map[ord(character)]]
        scale = size / self._em
        lines = _outline(glyph, self._glyphs, scale)
        ahead = math.floor(glyph.width * scale + 0.5)
        if not lines:
            return Image.new("L", (1, 1)), 0, 0, ahead
        xs, ys = [p[0] for line in lines for p in line], [p[1] for line in lines for p in line]
        left, top = math.floor(min(xs)), math.ceil(max(ys))
        wide, high = math.ceil(max(xs)) - left + 1, top - math.floor(min(ys)) + 1
        filled = _filled([((a[0] - left, top - a[1]), (b[0] - left, top - b[1])) for a, b in lines], wide, high)
        return Image.frombytes("L", (wide, high), filled), left, top, ahead


@cache
def face(name: str) -> Face:
    """A font by its name here. Raises PartMissing, saying what to install, where its package is not here."""
    try:
        from fontTools.ttLib import TTFont
    except ImportError:
        raise PartMissing("drawing pages needs fonttools and two packages of fonts", do=INSTALL) from None
    if name == "chinese":
        try:
            import noto_cjk_sans_otc
        except ImportError:
            raise PartMissing("no font with Chinese is installed", do="pip install noto-cjk-sans-otc") from None
        return Face(TTFont(str(noto_cjk_sans_otc.FONT_PATH), fontNumber=_SIMPLIFIED, lazy=True))
    try:
        import pymupdf_fonts
    except ImportError:
        raise PartMissing("the fonts for pages are not installed", do="pip install pymupdf-fonts") from None
    return Face(TTFont(io.BytesIO(pymupdf_fonts.myfont(_LATIN[name])), lazy=True))


def _outline(glyph: Any, glyphs: Any, scale: float) -> list[tuple[Point, Point]]:
    """The glyph's outline as straight lines, in pixels with y upwards."""
    from fontTools.pens.basePen import BasePen

    lines: list[tuple[Point, Point]] = []

    class Flat(BasePen):  # type: ignore[misc]
        """Takes an outline and leaves lines."""

        def _moveTo(self, point: Point) -> None:
            self.start = self.here = point

        def _lineTo(self, point: Point) -> None:
            _add(lines, self.here, point, scale)
            self.here = point

        def _curveToOne(self, one: Point, two: Point, end: Point) -> None:
            for n in range(1, _FLAT + 1):
                t = n / _FLAT
                u = 1 - t
                a, b, c, d = u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t
                self._lineTo(
                    (
                        a * self.base[0] + b * one[0] + c * two[0] + d * end[0],
                        a * self.base[1] + b * one[1] + c * two[1] + d * end[1],
                    )
                    if n < _FLAT
                    else end
                )

        def curveTo(self, *points: Point) -> None:
            self.base = self.here
            super().curveTo(*points)

        def _qCurveToOne(self, one: Point, end: Point) -> None:
            base = self.here
            for n in range(1, _FLAT + 1):
                t = n / _FLAT
                u = 1 - t
                a, b, c = u * u, 2 * u * t, t * t
                mid = (a * base[0] + b * one[0] + c * end[0], a * base[1] + b * one[1] + c * end[1])
                self._lineTo(mid if n < _FLAT else end)

        def _closePath(self) -> None:
            self._lineTo(self.start)

    glyph.draw(Flat(glyphs))
    return lines


def _add(lines: list[tuple[Point, Point]], a: Point, b: Point, scale: float) -> None:
    if a != b:
        lines.append(((a[0] * scale, a[1] * scale), (b[0] * scale, b[1] * scale)))


def _filled(lines: Iterable[tuple[Point, Point]], wide: int, high: int) -> bytes:
    """How much of each pixel lies inside, 0 to 255, row by row from the top."""
    area = [0.0] * (wide * high + 2)
    for line in lines:
        _sweep(area, wide, high, *line)
    covered = bytearray(wide * high)
    for row in range(high):
        total = 0.0
        for at in range(row * wide, row * wide + wide):
            total += area[at]
            covered[at] = min(255, math.floor(abs(total) * 255 + 0.5))
    return bytes(covered)


def _sweep(area: list[float], wide: int, high: int, a: Point, b: Point) -> None:
    """Add one line's areas, a row of pixels at a time."""
    if a[1] == b[1]:
        return
    sign = 1.0
    if a[1] > b[1]:
        a, b, sign = b, a, -1.0
    slope = (b[0] - a[0]) / (b[1] - a[1])
    x = a[0]
    for row in range(math.floor(a[1]), min(high, math.ceil(b[1]))):
        tall = min(row + 1, b[1]) - max(row, a[1])
        on = x + slope * tall
        _row(area, row * wide, min(x, on), max(x, on), sign * tall)
        x = on


def _row(area: list[float], start: int, low: float, high: float, part: float) -> None:
    """Spread a line's part in one row over the pixels from `low` to `high`."""
    first, last = math.floor(low), math.ceil(high)
    if last <= first + 1:
        middle = (low + high) / 2 - first
        area[start + first] += part - part * middle
        area[start + first + 1] += part * middle
        return
    steep = 1 / (high - low)
    head = 0.5 * steep * (1 - (low - first)) ** 2
    tail = 0.5 * steep * (high - last + 1) ** 2
    area[start + first] += part * head
    if last == first + 2:
        area[start + first + 1] += part * (1 - head - tail)
    else:
        second = steep * (1.5 - (low - first))
        area[start + first + 1] += part * (second - head)
        for pixel in range(first + 2, last - 1):
            area[start + pixel] += part * steep
        area[start + last - 1] += part * (1 - (second + (last - first - 3) * steep) - tail)
    area[start + last] += part * tail
