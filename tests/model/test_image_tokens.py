"""Image tokens against measured counts, Hugging Face's rule and the laws both obey."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenops.errors import BadInput
from qwenops.model.image_tokens import (
    CELL_PIXELS,
    MARKER_TOKENS,
    cell_pixels,
    image_tokens,
    tokens_in_cells,
)
from qwenops.model.projector import read_projector
from tests.model.make import model_file

sides = st.integers(1, 8000)
cells = st.sampled_from([28, 32])


@pytest.mark.parametrize(
    ("width", "height", "max_tokens", "measured"),
    [
        (425, 550, 4096, 223),
        (850, 1100, 4096, 920),
        (1275, 1650, 4096, 2082),
        (2550, 3300, 4096, 4034),
        (2550, 3300, 16384, 8242),
    ],
)
def test_a_measured_image_takes_the_measured_tokens(width: int, height: int, max_tokens: int, measured: int) -> None:
    # counts of a public write-up on Qwen3-VL under Ollama and under Hugging Face's limits, markers included
    assert image_tokens(width, height, "qwen3vl", 8, max_tokens).tokens + MARKER_TOKENS == measured


@pytest.mark.parametrize(
    ("width", "height", "family", "limits", "size"),
    [
        (1, 1, "qwen3vl", (8, 4096), (96, 96, 9)),
        (1, 1, "qwen25vl", (1024, 4096), (896, 896, 1024)),
        (640, 480, "qwen3vl", (1024, 4096), (1184, 896, 1036)),
        (2048, 2048, "qwen35", (8, 4096), (2048, 2048, 4096)),
        (2049, 2048, "qwen35", (8, 4096), (2048, 2048, 4096)),
        (2065, 2048, "qwen35", (8, 4096), (2048, 2016, 4032)),
        (42, 28, "qwen2vl", (1, 4096), (56, 28, 2)),
        (20_000, 10, "qwen3vl", (8, 4096), (20_000, 32, 625)),
    ],
)
def test_an_image_is_resized(
    width: int, height: int, family: str, limits: tuple[int, int], size: tuple[int, int, int]
) -> None:
    found = image_tokens(width, height, family, *limits)
    assert (found.width, found.height, found.tokens) == size


def in_32_bit_floats(width: int, height: int, cell: int, least: int, most: int) -> tuple[int, int]:
    """The same rule by numpy's own 32-bit arithmetic."""
    f = np.float32
    w = max(cell, int(np.trunc(f(width) / f(cell) + f(0.5))) * cell)
    h = max(cell, int(np.trunc(f(height) / f(cell) + f(0.5))) * cell)
    if w * h > most * cell**2:
        beta = np.sqrt(f(height) * f(width) / f(most * cell**2))
        return (
            max(cell, int(np.floor(f(width) / beta / f(cell))) * cell),
            max(cell, int(np.floor(f(height) / beta / f(cell))) * cell),
        )
    if w * h < least * cell**2:
        beta = np.sqrt(f(least * cell**2) / (f(height) * f(width)))
        return int(np.ceil(f(width) * beta / f(cell))) * cell, int(np.ceil(f(height) * beta / f(cell))) * cell
    return w, h


@settings(max_examples=500, deadline=None)
@given(sides, sides, cells, st.integers(1, 2000), st.integers(0, 6000))
def test_the_rule_is_kept_in_32_bit_floats(width: int, height: int, cell: int, least: int, above: int) -> None:
    found = tokens_in_cells(width, height, cell, least, least + above)
    assert (found.width, found.height) == in_32_bit_floats(width, height, cell, least, least + above)


def by_hugging_face(width: int, height: int, cell: int, least: int, most: int) -> tuple[int, int]:
    """smart_resize of qwen-vl-utils (vision_process.py), in Python's own floats."""
    h, w = max(cell, round(height / cell) * cell), max(cell, round(width / cell) * cell)
    if h * w > most * cell**2:
        beta = math.sqrt(height * width / (most * cell**2))
        h, w = math.floor(height / beta / cell) * cell, math.floor(width / beta / cell) * cell
    elif h * w < least * cell**2:
        beta = math.sqrt(least * cell**2 / (height * width))
        h, w = math.ceil(height * beta / cell) * cell, math.ceil(width * beta / cell) * cell
    return max(cell, w), max(cell, h)


@settings(max_examples=500, deadline=None)
@given(sides, sides, cells)
def test_hugging_face_differs_by_a_cell_at_most(width: int, height: int, cell: int) -> None:
    ours, theirs = tokens_in_cells(width, height, cell, 8, 4096), by_hugging_face(width, height, cell, 8, 4096)
    # halves are rounded to even there and up here, which can also move an image across a limit
    if width % cell * 2 != cell and height % cell * 2 != cell:
        assert abs(ours.width - theirs[0]) <= cell
        assert abs(ours.height - theirs[1]) <= cell


@settings(max_examples=500, deadline=None)
@given(sides, sides, cells, st.integers(8, 16384))
def test_an_image_has_whole_cells_and_stays_under_its_limit(width: int, height: int, cell: int, most: int) -> None:
    found = tokens_in_cells(width, height, cell, 1, most)
    assert found.width % cell == found.height % cell == 0
    assert found.tokens == found.width * found.height // cell**2
    # only a strip so thin that its side is held at one cell may pass the limit
    assert found.tokens <= most or cell in (found.width, found.height)


@settings(max_examples=200, deadline=None)
@given(sides, sides, cells)
def test_an_image_turned_takes_the_same_tokens(width: int, height: int, cell: int) -> None:
    assert tokens_in_cells(width, height, cell, 8, 4096).tokens == tokens_in_cells(height, width, cell, 8, 4096).tokens


@pytest.mark.parametrize(
    ("width", "height", "family", "limits", "why"),
    [
        (0, 5, "qwen3vl", (8, 4096), "0 x 5 pixels"),
        (5, 5, "llama", (8, 4096), "'llama'"),
        (5, 5, "qwen3vl", (9, 8), "at least 9 and at most 8"),
        (5, 5, "qwen3vl", (0, 8), "at least 0"),
    ],
)
def test_what_cannot_be_counted_is_refused(
    width: int, height: int, family: str, limits: tuple[int, int], why: str
) -> None:
    with pytest.raises(BadInput, match=why):
        image_tokens(width, height, family, *limits)


@pytest.mark.parametrize(
    ("kind", "patch", "cell"), [("qwen2.5vl_merger", 14, 28), ("qwen3vl_merger", 16, 32), ("qwen2vl_merger", 14, 28)]
)
def test_a_projector_knows_its_cell(tmp_path: Path, kind: str, patch: int, cell: int) -> None:
    path = model_file(
        tmp_path / "mmproj.gguf",
        "clip",
        clip__projector_type=kind,
        clip__vision__patch_size=patch,
        clip__vision__spatial_merge_size=2,
        clip__vision__projection_dim=32,
    )
    assert cell_pixels(read_projector(path)) == CELL_PIXELS[kind] == cell
