"""The picture is a real PNG, and shows the word."""

from __future__ import annotations

import io

import pytest

from qwenops.ollama.drawing import CONSONANTS, DIGITS, VOWELS, word_png
from qwenops.ollama.sight import made_up_word


def test_another_reader_sees_black_dots_on_white_where_the_word_is() -> None:
    image_module = pytest.importorskip("PIL.Image", reason="Pillow reads the picture as the judge")
    png, width, height = word_png("HAT", scale=2, margin=3)

    picture = image_module.open(io.BytesIO(png))
    picture.verify()
    picture = image_module.open(io.BytesIO(png))

    assert (picture.mode, picture.size) == ("L", (width, height)) == ("L", (2 * 3 + 2 * 17, 2 * 3 + 2 * 7))
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
    border = [picture.getpixel((x, 0)) for x in range(width)] + [picture.getpixel((0, y)) for y in range(height)]
    assert set(border) == {255}


def test_every_character_of_a_made_up_word_can_be_drawn_and_told_apart() -> None:
    drawn = {character: word_png(character)[0] for character in CONSONANTS + VOWELS + DIGITS}
    assert len(set(drawn.values())) == len(drawn)


def test_words_are_made_up_anew_and_never_ambiguous() -> None:
    words = {made_up_word(seed) for seed in range(200)}
    assert len(words) > 190
    assert not set("OI01QDBS5Z28G6") & set("".join(words))
    assert all(len(word) == 10 for word in words)


def test_a_character_without_a_glyph_is_an_error() -> None:
    with pytest.raises(KeyError):
        word_png("?")
