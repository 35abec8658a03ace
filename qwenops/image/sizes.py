"""The size of a picture: an official one by its ratio, or any that the model can make."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from qwenops.errors import BadInput
from qwenops.image.catalogue import ImageModel

DEFAULT_MULTIPLE: Final = 16
"""Pixels: 8 of the VAE times a patch of 2 (diffusers, pipeline_qwenimage.py)."""

_LARGEST_SIDE: Final = 8192
_PIXELS: Final = re.compile(r"^\s*(\d+)\s*[xX×*]\s*(\d+)\s*$")
_RATIO: Final = re.compile(r"^\s*(\d+)\s*:\s*(\d+)\s*$")


@dataclass(frozen=True)
class Size:
    """Width and height in pixels; `ratio` is set where it is one of the official sizes."""

    width: int
    height: int
    ratio: str | None = None

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def choose_size(model: ImageModel, wanted: str | None) -> Size:
    """The size that was asked for ("16:9" or "1328x1328"), or the one of the maker's own example.

    Raises BadInput for a ratio that is not official, and for sides that the model would silently change.
    """
    if wanted is None:
        return _of_ratio(model, model.example_ratio or "1:1")
    ratio = _RATIO.match(wanted)
    if ratio:
        return _of_ratio(model, f"{int(ratio[1])}:{int(ratio[2])}")
    pixels = _PIXELS.match(wanted)
    if not pixels:
        raise BadInput(f"{wanted!r} is not a size", do="a ratio such as 16:9, or pixels such as 1328x1328")
    return _of_pixels(model, int(pixels[1]), int(pixels[2]))


def remarks(model: ImageModel, size: Size) -> tuple[str, ...]:
    """What to know of a size that the maker does not list; nothing for one that it does."""
    if size.ratio is not None or not model.sizes:
        return ()
    largest = max(w * h for w, h in model.sizes.values())
    if size.pixels > largest * 1.05:
        times = size.pixels / largest
        return (f"{size} has {times:.1f} times the pixels of the largest official size; the model was not made for it",)
    return (f"{size} is not one of the official sizes of {model.title}",)


def multiple_of(model: ImageModel) -> int:
    """What both sides must be a multiple of, in pixels."""
    return int(model.value("size_multiple") or DEFAULT_MULTIPLE)


def _of_ratio(model: ImageModel, ratio: str) -> Size:
    if ratio not in model.sizes:
        known = ", ".join(f"{r} ({w}x{h})" for r, (w, h) in model.sizes.items())
        raise BadInput(
            f"{model.title} has no official size of ratio {ratio}",
            do=(f"official: {known}" if known else "give pixels, such as 1024x1024",),
        )
    width, height = model.sizes[ratio]
    return Size(width, height, ratio)


def _of_pixels(model: ImageModel, width: int, height: int) -> Size:
    step = multiple_of(model)
    for ratio, sides in model.sizes.items():
        if sides == (width, height):
            return Size(width, height, ratio)
    if not 0 < width <= _LARGEST_SIDE or not 0 < height <= _LARGEST_SIDE:
        raise BadInput(f"{width}x{height} is not a size for a picture", do=f"sides of {step} to {_LARGEST_SIDE} pixels")
    if width % step or height % step:
        raise BadInput(
            f"sides of {model.title} must be multiples of {step}: {width}x{height} would be changed silently",
            do=f"--size {_near(model, width, height, step)}",
        )
    return Size(width, height)


def _near(model: ImageModel, width: int, height: int, step: int) -> Size:
    """The official size where one is within a step or two of each side, else the nearest multiples."""
    for ratio, (w, h) in model.sizes.items():
        if abs(w - width) <= 3 * step and abs(h - height) <= 3 * step:
            return Size(w, h, ratio)
    return Size(max(step, round(width / step) * step), max(step, round(height / step) * step))
