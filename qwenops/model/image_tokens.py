"""How many tokens an image takes, from its pixels, counted as llama.cpp does.

The image is stretched to whole cells (a cell is one token: patch times merge), shrunk where it would pass the most
tokens and grown where it would miss the least. llama.cpp computes this in 32-bit floats and rounds halves away from
zero; so does this module, since one cell more or less is a row of tokens. Source: tools/mtmd/mtmd-image.cpp
(calc_size_preserved_ratio) and clip.cpp (limits 8 and 4096), b10435.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from qwenops.errors import BadInput
from qwenops.model.types import Projector

MIN_TOKENS = 8
MAX_TOKENS = 4096
MARKER_TOKENS = 2
"""Vision start and vision end, which stand around each image in the prompt and are counted with it."""

CELL_PIXELS: dict[str, int] = {
    "qwen2vl": 28,
    "qwen25vl": 28,
    "qwen2vl_merger": 28,
    "qwen2.5vl_merger": 28,
    "qwen3vl": 32,
    "qwen3vlmoe": 32,
    "qwen35": 32,
    "qwen35moe": 32,
    "qwen3vl_merger": 32,
}
"""Side of a cell by text architecture or projector kind."""

_F32 = struct.Struct("<f")


@dataclass(frozen=True)
class ImageSize:
    """An image as the encoder sees it: its sides in pixels after the resize, and its tokens without markers."""

    width: int
    height: int
    tokens: int


def image_tokens(
    width: int, height: int, family: str, min_tokens: int = MIN_TOKENS, max_tokens: int = MAX_TOKENS
) -> ImageSize:
    """The resized sides and the tokens of an image of `width` x `height` pixels.

    `family` is a text architecture ("qwen3vl") or a projector kind. Raises BadInput for an unknown family, an empty
    image or limits that contradict each other.
    """
    cell = CELL_PIXELS.get(family)
    if cell is None:
        raise BadInput(f"the image tokens of {family!r} are not known", do="known: " + ", ".join(CELL_PIXELS))
    return tokens_in_cells(width, height, cell, min_tokens, max_tokens)


def tokens_in_cells(width: int, height: int, cell: int, min_tokens: int, max_tokens: int) -> ImageSize:
    """As image_tokens, for a cell of any side."""
    if width <= 0 or height <= 0:
        raise BadInput(f"an image of {width} x {height} pixels has nothing in it", do="give another image")
    if not 0 < min_tokens <= max_tokens:
        raise BadInput(f"image tokens of at least {min_tokens} and at most {max_tokens} contradict each other")
    most, least = max_tokens * cell * cell, min_tokens * cell * cell
    wide = max(cell, _round(width, cell))
    high = max(cell, _round(height, cell))
    pixels = _f32(_f32(height) * _f32(width))
    if wide * high > most:
        shrink = _f32(math.sqrt(_f32(pixels / _f32(most))))
        wide = max(cell, _floor(_f32(_f32(width) / shrink), cell))
        high = max(cell, _floor(_f32(_f32(height) / shrink), cell))
    elif wide * high < least:
        grow = _f32(math.sqrt(_f32(_f32(least) / pixels)))
        wide = _ceil(_f32(_f32(width) * grow), cell)
        high = _ceil(_f32(_f32(height) * grow), cell)
    return ImageSize(wide, high, (wide // cell) * (high // cell))


def cell_pixels(projector: Projector) -> int:
    """Side of a projector's cell, from its own header: the patch times the merge (2 where it does not say)."""
    patch = projector.header.metadata.get("clip.vision.patch_size", 0)
    merge = projector.header.metadata.get("clip.vision.spatial_merge_size", 2)
    if not isinstance(patch, int) or not isinstance(merge, int) or patch * merge <= 0:
        raise BadInput(f"{projector.path} claims patches of {patch!r} pixels merged by {merge!r}")
    return patch * merge


def _f32(x: float) -> float:
    """The nearest 32-bit float; one operation of two such floats in 64 bits, rounded so, is the 32-bit result."""
    return float(_F32.unpack(_F32.pack(x))[0])


def _round(x: float, cell: int) -> int:
    return math.floor(_f32(_f32(x) / cell) + 0.5) * cell


def _floor(x: float, cell: int) -> int:
    return math.floor(_f32(x / cell)) * cell


def _ceil(x: float, cell: int) -> int:
    return math.ceil(_f32(x / cell)) * cell
