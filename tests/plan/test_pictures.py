"""What pictures take of the context, at the cap and at a stated size."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from qwenops.errors import BadInput
from qwenops.memory.types import LoadSettings
from qwenops.plan.pictures import floor_of, parse_image_size, picture_tokens
from qwenops.plan.profile import profile
from qwenops.plan.types import Choice, Wish
from tests.support.dims import TEXT, VISION
from tests.support.shapes import text_model, vision_projector

SIZES = {
    "1654x2339": (1654, 2339),
    " 640 X 480 ": (640, 480),
    "1920×1080": (1920, 1080),
    "A4@150dpi": (1240, 1754),
    "a4@300": (2480, 3508),
    "letter@200 dpi": (1700, 2200),
}


@pytest.mark.parametrize(("text", "size"), SIZES.items(), ids=SIZES.keys())
def test_a_size_is_pixels_or_a_sheet_at_a_resolution(text: str, size: tuple[int, int]) -> None:
    assert parse_image_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "1654", "0x20", "20x0", "A9@150dpi", "A4", "A4@0", "A4@99999dpi", "-3x4", "9999999x2"]
)
def test_what_is_no_size_is_refused_with_one_that_is(text: str) -> None:
    with pytest.raises(BadInput, match=re.escape(repr(text))) as refused:
        parse_image_size(text)
    assert "A4@150dpi" in " ".join(refused.value.do if isinstance(refused.value.do, tuple) else (refused.value.do,))


# an A4 page of 150 dpi: 1240 x 1754 pixels are 39 x 55 cells of 32 and 44 x 63 cells of 28
TOKENS = [
    ("qwen3-vl-8b", None, 4096, 4096),
    ("qwen3-vl-8b", (1240, 1754), 4096, 39 * 55),
    ("qwen2.5-vl-7b", (1240, 1754), 4096, 44 * 63),
    # Ollama's least for the family, and none for Qwen3.5
    ("qwen3-vl-8b", (64, 64), 4096, 1024),
    ("qwen3.5-9b", (256, 256), 4096, 64),
    # above the cap it is scaled down to it
    ("qwen3-vl-8b", (2480, 3508), 2048, 38 * 53),
]


@pytest.mark.parametrize(("shape", "size", "most", "tokens"), TOKENS)
def test_a_picture_takes_what_the_runtime_makes_of_its_size(
    shape: str, size: tuple[int, int] | None, most: int, tokens: int
) -> None:
    model = text_model(TEXT[shape], projector=vision_projector(VISION[shape]))
    assert picture_tokens(model, most, profile("ocr"), Wish(image_size=size), {}) == tokens


def test_the_context_holds_every_picture_at_its_stated_size() -> None:
    model = text_model(TEXT["qwen3-vl-8b"], projector=vision_projector(VISION["qwen3-vl-8b"]))
    task = profile("ocr")
    one = picture_tokens(model, 4096, task, Wish(image_size=(1240, 1754)), {})
    choice = Choice(model, LoadSettings(), images=3, picture_tokens=one)
    floor = floor_of(choice, task)
    taken = 3 * (39 * 55 + 2) + task.prompt_tokens + task.answer_tokens
    assert taken <= floor < taken + 256
    assert floor < floor_of(replace(choice, picture_tokens=4096), task)
