"""Draw a word into a PNG without any imaging library: a small font of our own, and zlib for the file."""

from __future__ import annotations

import struct
import zlib

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
CONSONANTS = "FHKLMNPRTX"
VOWELS = "AEU"
DIGITS = "3479"
_ADVANCE, _HEIGHT = 6, 7


def word_png(word: str, *, scale: int = 4, margin: int = 12) -> tuple[bytes, int, int]:
    """A PNG with the word in black on white, and its width and height in pixels.

    `scale` is the side of one dot of the 5x7 font, `margin` the white around, both in pixels. Raises KeyError for a
    character that the font has not.
    """
    width = 2 * margin + scale * (_ADVANCE * len(word) - 1)
    height = 2 * margin + scale * _HEIGHT
    blank = b"\xff" * width
    rows = [blank] * margin
    for line in range(_HEIGHT):
        dots = "".join(f"{_GLYPHS[character][line]:05b}0" for character in word)[:-1]
        inner = b"".join((b"\0" if dot == "1" else b"\xff") * scale for dot in dots)
        rows += [b"\xff" * margin + inner + b"\xff" * margin] * scale
    rows += [blank] * margin
    return _png(width, height, rows), width, height


def _png(width: int, height: int, rows: list[bytes]) -> bytes:
    """An 8-bit grey PNG (ISO/IEC 15948): signature, IHDR, one IDAT with filter 0 rows, IEND."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
