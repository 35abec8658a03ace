"""The picture is a real PNG, and shows the word, the number and the shapes."""

from __future__ import annotations

import io
from typing import Any

import pytest

from qwenops.ollama.drawing import CONSONANTS, DIGITS, SHAPES, VOWELS, Canvas
from qwenops.ollama.scene import Scene, made_up_scene, scene_png


def opened(png: bytes) -> Any:
    image_module = pytest.importorskip("PIL.Image", reason="Pillow reads the picture as the judge")
    image_module.open(io.BytesIO(png)).verify()
    return image_module.open(io.BytesIO(png))


def test_another_reader_sees_black_dots_on_white_where_the_text_is() -> None:
    canvas = Canvas(40, 20)
    assert canvas.text_width("HAT", 2) == 34
    canvas.text("HAT", 3, 3, 2)
    picture = opened(canvas.png())

    assert (picture.mode, picture.size) == ("L", (40, 20))
    rows = ["".join("#" if picture.getpixel((3 + 2 * x, 3 + 2 * y)) == 0 else "." for x in range(17)) for y in range(7)]
    assert rows == [
        "#...#..###..#####",
        "#...#.#...#...#..",
        "#...#.#...#...#..",
        "#####.#####...#..",
        "#...#.#...#...#..",
        "#...#.#...#...#..",
        "#...#.#...#...#..",
    ]
    border = [picture.getpixel((x, 0)) for x in range(40)] + [picture.getpixel((0, y)) for y in range(20)]
    assert set(border) == {255}


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        ("circle", [".####.", "######", "######", "######", "######", ".####."]),
        ("square", ["######"] * 6),
        ("triangle", ["......", "..##..", "..##..", ".####.", ".####.", "######"]),
    ],
)
def test_a_shape_is_what_its_name_says(shape: str, rows: list[str]) -> None:
    canvas = Canvas(6, 6)
    canvas.shape(shape, 3, 3, 6)
    picture = opened(canvas.png())
    assert ["".join("#" if picture.getpixel((x, y)) == 0 else "." for x in range(6)) for y in range(6)] == rows


def test_every_character_of_a_made_up_word_can_be_drawn_and_told_apart() -> None:
    def drawn(character: str) -> bytes:
        canvas = Canvas(8, 8)
        canvas.text(character, 0, 0, 1)
        return canvas.png()

    characters = CONSONANTS + VOWELS + DIGITS
    assert len({drawn(character) for character in characters}) == len(characters)
    with pytest.raises(KeyError):
        drawn("?")


@pytest.mark.parametrize("relation", ["left", "right", "above", "below"])
def test_the_shapes_lie_as_the_scene_says(relation: str) -> None:
    png, width, height = scene_png(Scene("KAPUFE", "9473", "square", relation, "circle"))
    picture = opened(png)
    assert picture.size == (width, height)
    columns, rows = picture.crop((0, 110, width, height)), []
    for x, y in ((90, 85), (230, 85), (160, 35), (160, 135)):
        # the corner of a square is black, that of a circle is not
        rows.append((columns.getpixel((x, y)) == 0, columns.getpixel((x - 28, y - 28)) == 0))
    left, right, upper, lower = rows
    square, circle, nothing = (True, True), (True, False), (False, False)
    wanted = {
        "left": (square, circle, nothing, nothing),
        "right": (circle, square, nothing, nothing),
        "above": (nothing, nothing, square, circle),
        "below": (nothing, nothing, circle, square),
    }
    assert (left, right, upper, lower) == wanted[relation]


def test_scenes_are_made_up_anew_and_never_ambiguous() -> None:
    scenes = [made_up_scene(seed) for seed in range(200)]
    assert len({(s.word, s.number) for s in scenes}) > 190
    assert not set("OI01QDBS5Z28G6") & set("".join(s.word + s.number for s in scenes))
    assert {s.relation for s in scenes} == {"left", "right", "above", "below"}
    assert {s.first for s in scenes} == {s.second for s in scenes} == set(SHAPES)
    assert all(s.first != s.second and len(set(s.number)) == 4 for s in scenes)
    assert made_up_scene(7) == made_up_scene(7)
