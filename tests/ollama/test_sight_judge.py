"""What counts as seen: one table of answers for the text, one for the shapes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.ollama.repetition import repeated_end
from qwenops.ollama.scene import OPPOSITE, Scene, made_up_scene
from qwenops.ollama.sight_judge import Said, judge_reading, judge_relation, shown, without_thoughts

SCENE = Scene("KAPUFE", "9473", "circle", "left", "square")
RIGHT = ("", "", "")


@pytest.mark.parametrize(
    ("said", "causes"),
    [
        pytest.param(Said("KAPUFE\n9473"), RIGHT, id="perfect"),
        pytest.param(Said("kapufe 9473"), RIGHT, id="in small letters"),
        pytest.param(Said("The picture shows the word “Kapufe” and below it the number 9,473."), RIGHT, id="in prose"),
        pytest.param(Said("**KAPUFE**\n\n**9473**\n\n● ■"), RIGHT, id="in Markdown, with the shapes"),
        pytest.param(Said("K A P U F E  9 4 7 3"), RIGHT, id="spaced out"),
        pytest.param(Said("KAPUFE9473"), RIGHT, id="in one piece"),
        pytest.param(Said("图片中的文字是“KAPUFE”，数字是９４７３。"), RIGHT, id="Chinese, fullwidth digits"),
        pytest.param(Said("KAPURE 9473"), ("", "wrong", ""), id="one letter wrong"),
        pytest.param(Said("KAPUFES 9473"), ("", "wrong", ""), id="one letter too many"),
        pytest.param(Said("KAPUFE 9743"), ("", "", "wrong"), id="digits turned around"),
        pytest.param(Said("KAPUFE 94731"), ("", "", "wrong"), id="one digit too many"),
        pytest.param(Said("KAPUFE 94"), ("", "", "wrong"), id="half the digits"),
        pytest.param(Said("A red bicycle."), ("", "wrong", "wrong"), id="another picture's text"),
        pytest.param(Said(""), ("empty", "wrong", "wrong"), id="empty"),
        pytest.param(Said(" \n"), ("empty", "wrong", "wrong"), id="blank"),
        pytest.param(Said("<think>A word.</think>KAPUFE 9473"), RIGHT, id="thoughts that leaked"),
        pytest.param(Said("The word is KAPUFE 9473, so</think>\nI see"), ("", "wrong", "wrong"), id="only in thought"),
        pytest.param(
            Said("<think>It says KAPUFE 9473", done_reason="length"), ("thoughts", "wrong", "wrong"), id="never done"
        ),
        pytest.param(
            Said("", "It says KAPUFE 9473", "length"), ("thoughts", "wrong", "wrong"), id="nothing but thoughts"
        ),
        pytest.param(Said("", "wait, " * 40, "length"), ("looping", "wrong", "wrong"), id="thoughts in a loop"),
        pytest.param(Said("KAPUFE 9473\n" * 6, done_reason="length"), ("looping", "", ""), id="right, again and again"),
        pytest.param(Said("!" * 31, done_reason=""), ("looping", "wrong", "wrong"), id="broken off by Ollama"),
        pytest.param(Said("....." * 9), ("", "wrong", "wrong"), id="dots that ended by themselves"),
        pytest.param(
            Said("KAPUFE 9473 and then a long description of", done_reason="length"),
            RIGHT,
            id="cut off, without a loop",
        ),
        pytest.param(Said("I'm sorry, but I can't see any image."), ("unseen", "wrong", "wrong"), id="sees none"),
        pytest.param(Said("Please provide the image."), ("unseen", "wrong", "wrong"), id="asks for it"),
        pytest.param(Said("抱歉，我无法查看图片。"), ("unseen", "wrong", "wrong"), id="sees none, in Chinese"),
        pytest.param(Said("I cannot read the rest, but: KAPUFE 9473"), RIGHT, id="modest, and right"),
        pytest.param(Said("", garbled=True), ("garbled", "wrong", "wrong"), id="the parser gave up"),
    ],
)
def test_the_text_is_judged_part_by_part(said: Said, causes: tuple[str, str, str]) -> None:
    found = judge_reading(SCENE, said)
    assert [f.part for f in found] == ["answer", "word", "number"]
    assert tuple(f.cause for f in found) == causes


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        pytest.param("left", "", id="one word"),
        pytest.param("Left of.", "", id="two words"),
        pytest.param("The circle is to the left of the square.", "", id="a sentence"),
        pytest.param("The square is right of the circle.", "", id="turned around"),
        pytest.param("To the left of the square is the circle.", "", id="place first"),
        pytest.param("The circle is on the left and the square is on the right.", "", id="both sides, both true"),
        pytest.param("The black circle is left, the square right.", "", id="both sides in short"),
        pytest.param(f"{SCENE.relation_question} Left.", "", id="the question repeated"),
        pytest.param("左", "", id="Chinese, one character"),
        pytest.param("圆在正方形的左边。", "", id="Chinese"),
        pytest.param("正方形的左边是圆形。", "", id="Chinese, place first"),
        pytest.param("左边是圆，右边是正方形。", "", id="Chinese, both sides"),
        pytest.param("正方形在圆的右边", "", id="Chinese, turned around"),
        pytest.param("<think>right? no.</think>left", "", id="thoughts that leaked"),
        pytest.param("right", "wrong", id="the opposite"),
        pytest.param("The square is left of the circle.", "wrong", id="the opposite, turned around"),
        pytest.param("正方形在左边", "wrong", id="the opposite, in Chinese"),
        pytest.param("above", "wrong", id="another direction"),
        pytest.param("The circle is right below the square.", "wrong", id="another direction, with an adverb"),
        pytest.param("left or right", "undecided", id="both"),
        pytest.param("upper left", "undecided", id="a corner"),
        pytest.param("They are next to each other.", "undecided", id="neither"),
        pytest.param("", "undecided", id="empty"),
    ],
)
def test_the_shapes_are_judged_by_what_is_true(text: str, cause: str) -> None:
    assert judge_relation(SCENE, Said(text)).cause == cause


@pytest.mark.parametrize(
    ("text", "cause"), [("上", ""), ("上方", ""), ("on top of it", ""), ("在图上看是下方", "wrong")]
)
def test_above_in_other_words(text: str, cause: str) -> None:
    assert judge_relation(Scene("A", "3", "triangle", "above", "square"), Said(text)).cause == cause


@given(st.integers())
def test_every_scene_takes_its_own_answer_and_its_mirror_and_refuses_the_opposite(seed: int) -> None:
    scene = made_up_scene(seed)
    said = f"The {scene.first} is {scene.relation} the {scene.second}."
    mirror = f"The {scene.second} is {OPPOSITE[scene.relation]} the {scene.first}."
    false = f"The {scene.first} is {OPPOSITE[scene.relation]} the {scene.second}."
    assert [judge_relation(scene, Said(text)).cause for text in (said, mirror, false)] == ["", "", "wrong"]
    assert all(f.ok for f in judge_reading(scene, Said(f"{scene.word} {scene.number}")))


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("", None),
        ("a plain sentence that ends", None),
        ("ha" * 5, None),
        ("a" * 24, "a"),
        ("the total is " + "0, " * 20, "0, "),
        ("<td></td>" * 4, "<td></td>"),
        ("<td></td>" * 4 + "<td", "td></td><"),
        ("row of words\n" * 3, None),
    ],
)
def test_a_loop_is_an_end_that_repeats(text: str, unit: str | None) -> None:
    found = repeated_end(text)
    assert (sorted(found) if found else None) == (sorted(unit) if unit else None)


@given(st.text(min_size=1, max_size=30), st.integers(4, 9), st.text(max_size=40))
def test_whatever_is_repeated_long_enough_is_found(unit: str, times: int, before: str) -> None:
    text = before + unit * max(times, -(-24 // len(unit)))
    found = repeated_end(text)
    assert found is not None
    assert text.endswith(found * 4)


def test_an_answer_is_shown_on_one_line_and_commands_no_terminal() -> None:
    assert shown("a\n\tb \x1b[31mred") == "a b [31mred"
    assert len(shown("x" * 500)) == 80
    assert without_thoughts("<think>a</think>b<think>c") == "b"
