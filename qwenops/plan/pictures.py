"""What pictures take of the context: at the runtime's cap, or at the size that was stated for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from qwenops.errors import BadInput
from qwenops.model.image_tokens import CELL_PIXELS, MIN_TOKENS, cell_pixels, tokens_in_cells
from qwenops.model.types import Model
from qwenops.plan.profile import Profile
from qwenops.plan.types import Choice, Wish
from qwenops.runtime.flags import image_limits

_PAPER_MM: Final = {
    "a3": (297.0, 420.0),
    "a4": (210.0, 297.0),
    "a5": (148.0, 210.0),
    "letter": (215.9, 279.4),
    "legal": (215.9, 355.6),
}
"""Sheets in millimetres, width first: ISO 216, ANSI/ASME Y14.1 and the US legal sheet."""
_MM_PER_INCH: Final = 25.4
_MOST_PIXELS: Final = 100_000


def parse_image_size(text: str) -> tuple[int, int]:
    """Width and height in pixels of "1654x2339" or of a sheet at a resolution, "A4@150dpi"; else BadInput."""
    pixels = re.fullmatch(r"(\d{1,6})\s*[x×]\s*(\d{1,6})", text.strip(), re.IGNORECASE)
    sheet = re.fullmatch(r"([a-z]\w*)\s*@\s*(\d{1,5})\s*(?:dpi)?", text.strip(), re.IGNORECASE)
    size = (0, 0)
    if pixels:
        size = (int(pixels[1]), int(pixels[2]))
    elif sheet and sheet[1].lower() in _PAPER_MM:
        wide, high = _PAPER_MM[sheet[1].lower()]
        size = (round(wide / _MM_PER_INCH * int(sheet[2])), round(high / _MM_PER_INCH * int(sheet[2])))
    if not all(0 < side <= _MOST_PIXELS for side in size):
        sheets = ", ".join(name.title() for name in _PAPER_MM)
        raise BadInput(
            f"{text!r} is no image size: pixels as 1654x2339, or a sheet ({sheets}) as A4@150dpi",
            do="--image-size A4@150dpi",
        )
    return size


def picture_tokens(model: Model, most_tokens: int, profile: Profile, wish: Wish, environment: Mapping[str, str]) -> int:
    """Tokens of one picture without its markers, in a server with `environment` that caps it at `most_tokens`.

    Without a stated size it is what the task makes of pictures, at most the cap. Raises BadInput where the model's
    cells are not known.
    """
    if wish.image_size is None:
        return min(most_tokens, profile.image_tokens)
    least = image_limits(model.architecture, environment)[0] or MIN_TOKENS
    cell = CELL_PIXELS.get(model.architecture) or (cell_pixels(model.projector) if model.projector else 0)
    if not cell:
        raise BadInput(f"the image tokens of {model.architecture} are not known", do="--image-tokens N")
    return tokens_in_cells(*wish.image_size, cell, min(least, most_tokens), most_tokens).tokens


def floor_of(choice: Choice, profile: Profile) -> int:
    """The smallest context that holds the task with the pictures of this choice."""
    task = replace(profile, images=choice.images, image_tokens=choice.picture_tokens)
    return task.floor(sees=choice.images > 0, image_tokens=choice.picture_tokens)
