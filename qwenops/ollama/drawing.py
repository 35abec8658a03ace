"""Draw text and shapes into a PNG without any imaging library: a small font of our own, and zlib for the file."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Final

# Five columns by seven rows, one row a number of five bits, the leftmost the highest. Letters and digits that are
# easily taken for one another (O and 0, I and 1, ...) are left out, so that a word can be compared to the letter.
_GLYPHS: dict[str, tuple[int, ...]] = {
    "A": (0b01110, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001),
    "E": (0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b11111),
    "F": (0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b10000),
    "H": (0b10001, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001),
    "K": (0b10001, 0b10010, 0b10100, 0b11000, 0b10100, 0b10010, 0b10001),
    "L": (0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b11111),
    "M": (0b10001, 0b11011, 0b10101, 0b10101, 0b10001, 0b10001, 0b10001),
    "N": (0b10001, 0b11001, 0b11001, 0b10101, 0b10011, 0b10011, 0b10001),
    "P": (0b11110, 0b10001, 0b10001, 0b11110, 0b10000, 0b10000, 0b10000),
    "R": (0b11110, 0b10001, 0b10001, 0b11110, 0b10100, 0b10010, 0b10001),
    "T": (0b11111, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100),
    "U": (0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110),
    "X": (0b10001, 0b10001, 0b01010, 0b00100, 0b01010, 0b10001, 0b10001),
    "3": (0b11111, 0b00010, 0b00100, 0b00010, 0b00001, 0b10001, 0b01110),
    "4": (0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010),
    "7": (0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000),
    "9": (0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100),
    " ": (0, 0, 0, 0, 0, 0, 0),
}
CONSONANTS: Final = "FHKLMNPRTX"
VOWELS: Final = "AEU"
DIGITS: Final = "3479"
_ADVANCE, _HEIGHT = 6, 7
_WHITE = 255

# Whether a point belongs to a shape around (0, 0) that is 2 wide and 2 high; y grows downwards.
_INSIDE: Final[dict[str, Callable[[float, float], bool]]] = {
    "circle": lambda x, y: x * x + y * y <= 1,
    "square": lambda x, y: True,
    "triangle": lambda x, y: abs(x) <= (y + 1) / 2,
}
SHAPES: Final = tuple(_INSIDE)


class Canvas:
    """White paper of so many pixels, and what is drawn on it in black."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._rows = [bytearray([_WHITE]) * width for _ in range(height)]

    @staticmethod
    def text_width(text: str, dot: int) -> int:
        """How many pixels wide a text is, without the gap behind its last character."""
        return dot * (_ADVANCE * len(text) - 1)

    def text(self, text: str, left: int, top: int, dot: int) -> None:
        """Write a text; `dot` is the side of one dot of the 5x7 font. Raises KeyError for a character it has not."""
        for place, character in enumerate(text):
            for line, bits in enumerate(_GLYPHS[character]):
                for column in range(5):
                    if bits >> (4 - column) & 1:
                        x = left + dot * (_ADVANCE * place + column)
                        self._fill(x, top + dot * line, dot)

    def shape(self, name: str, x: int, y: int, side: int) -> None:
        """Fill a shape of that width and height around a centre. Raises KeyError for an unknown one."""
        inside = _INSIDE[name]
        for row in range(side):
            for column in range(side):
                if inside((2 * column + 1) / side - 1, (2 * row + 1) / side - 1):
                    self._fill(x - side // 2 + column, y - side // 2 + row, 1)

    def png(self) -> bytes:
        """An 8-bit grey PNG (ISO/IEC 15948): signature, IHDR, one IDAT with filter 0 rows, IEND."""
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 0, 0, 0, 0)
        data = zlib.compress(b"".join(b"\0" + row for row in self._rows), 9)
        return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")

    def _fill(self, x: int, y: int, side: int) -> None:
        for row in self._rows[y : y + side]:
            row[x : x + side] = bytes(len(row[x : x + side]))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
