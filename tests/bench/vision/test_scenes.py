"""Made scenes: the same pixels everywhere, and what is asked of them is really in them."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from qwenops.bench.vision.scenes import made_scene, made_scenes
from qwenops.bench.vision.shapes import COLOURS
from qwenops.errors import BadInput

SAME_EVERYWHERE = "b64b5479a4984b7e"
"""Of questions 1 to 16 with seed 1; equal under Pillow 10.1, 12.0 and 13.0."""


def pixels(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)))


def patches(picture: bytes, colour: str) -> list[NDArray[np.bool_]]:
    """Where a colour is, patch by patch: what touches belongs together."""
    there = np.all(pixels(picture) == COLOURS[colour], axis=2)
    found = []
    while there.any():
        patch = np.zeros_like(there)
        patch[np.unravel_index(int(there.argmax()), there.shape)] = True
        while True:
            wider = patch.copy()
            for axis in (0, 1):
                for step in (-1, 1):
                    wider |= np.roll(patch, step, axis=axis)
            wider &= there
            if np.array_equal(wider, patch):
                break
            patch = wider
        found.append(patch)
        there &= ~patch
    return found


def shape_of(patch: NDArray[np.bool_]) -> str:
    """By how much of its box it fills: a square all, a circle pi/4, a triangle half."""
    rows, columns = np.nonzero(patch)
    filled = patch.sum() / ((np.ptp(rows) + 1) * (np.ptp(columns) + 1))
    return "square" if filled > 0.95 else "circle" if filled > 0.65 else "triangle"


def test_the_scenes_are_those_that_everybody_has() -> None:
    told = hashlib.sha256()
    for scene in made_scenes(16, 1):
        told.update(f"{scene.asked} {scene.expected} {scene.box}".encode())
        for picture in scene.pictures:
            told.update(pixels(picture).tobytes())
    assert told.hexdigest()[:16] == SAME_EVERYWHERE


@pytest.mark.parametrize("nth", range(1, 5))
def test_as_many_things_are_there_as_is_said(nth: int) -> None:
    scene = made_scene("count", nth, 3)
    colour, shape = scene.asked.split()[2:4]
    found = [shape_of(patch) + "s" for patch in patches(scene.pictures[0], colour)]
    assert found.count(shape) == int(scene.expected)


@pytest.mark.parametrize("nth", range(1, 9))
def test_the_first_thing_lies_where_it_is_said_to(nth: int) -> None:
    scene = made_scene("relation", nth, 3)
    words = scene.asked.split()
    middles = []
    for colour in (words[2], words[-11]):
        (patch,) = patches(scene.pictures[0], colour)
        rows, columns = np.nonzero(patch)
        middles.append((columns.mean(), rows.mean()))
    across, down = middles[0][0] - middles[1][0], middles[0][1] - middles[1][1]
    way = ("left" if across < 0 else "right") if abs(across) > abs(down) else ("above" if down < 0 else "below")
    assert way == scene.expected
    assert max(abs(across), abs(down)) > 2 * min(abs(across), abs(down))


@pytest.mark.parametrize("nth", range(1, 9))
def test_two_pictures_differ_by_the_thing_alone(nth: int) -> None:
    scene = made_scene("difference", nth, 3)
    first, second = scene.pictures
    more, fewer = (first, second) if "missing" in scene.asked else (second, first)
    colour, shape = scene.expected.split()
    found = [[shape_of(patch) for patch in patches(picture, colour)].count(shape) for picture in (more, fewer)]
    assert found == [1, 0]
    changed = np.any(pixels(more) != pixels(fewer), axis=2)
    assert np.all(pixels(fewer)[changed] == (245, 245, 242))


@pytest.mark.parametrize("nth", range(1, 5))
def test_a_box_holds_its_thing_and_nothing_else(nth: int) -> None:
    scene = made_scene("ground", nth, 3)
    assert scene.box is not None
    colour, shape = scene.expected.split()
    (patch,) = [p for p in patches(scene.pictures[0], colour) if shape_of(p) == shape]
    rows, columns = np.nonzero(patch)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert np.abs(np.subtract(box, scene.box)).max() <= 2


def test_more_questions_begin_with_the_fewer_and_an_unknown_kind_is_refused() -> None:
    assert made_scenes(9, 2)[:5] == made_scenes(5, 2)
    assert [s.kind for s in made_scenes(3, 1, ["ground", "count"])] == ["ground", "count", "ground"]
    with pytest.raises(BadInput, match="no questions of kind 'smell'"):
        made_scenes(1, 1, ["smell"])
