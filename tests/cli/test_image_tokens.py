"""qwenops image-tokens as a user calls it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.support.cli import qwenops
from tests.support.tiny import TinyModel


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page of 8.5 x 11 inches at 300 dots an inch."""
    Image.new("L", (2550, 3300)).save(tmp_path / "page.png", dpi=(300, 300))
    return tmp_path / "page.png"


@pytest.mark.parametrize(
    ("family", "limits", "seen"),
    [
        ("qwen3vl", (), (1792, 2304, 4032, 210.1)),
        ("qwen2.5vl", (), (1568, 2016, 4032, 183.9)),
        ("qwen3vl", ("--max-tokens", 1280, "--min-tokens", 8), (992, 1280, 1240, 116.5)),
        ("qwen3.5", ("--max-tokens", 16384), (2560, 3296, 8240, 300.4)),
    ],
)
def test_a_page_under_the_limits_of_a_family(
    page: Path, family: str, limits: tuple[object, ...], seen: tuple[float, ...]
) -> None:
    answer = qwenops("image-tokens", page, "--family", family, *limits, "--json")
    assert answer.code == 0, answer.err
    (row,) = answer.data
    assert (row["file"], row["width"], row["height"]) == (str(page), 2550, 3300)
    assert (row["resized_width"], row["resized_height"], row["tokens"], row["effective_dpi"]) == seen


def test_a_model_says_its_family_itself(page: Path, tiny_qwen25vl: TinyModel) -> None:
    answer = qwenops("image-tokens", page, "--model", tiny_qwen25vl.model, "--json")
    assert [row["tokens"] for row in answer.data] == [4032]
    assert answer.data[0]["resized_width"] % 28 == 0


def test_a_picture_that_cannot_be_used_is_named_and_the_others_are_counted(page: Path, tmp_path: Path) -> None:
    (tmp_path / "no.png").write_text("hello")
    answer = qwenops("image-tokens", page, tmp_path / "no.png", "--json")
    assert answer.code == 1
    assert answer.data[0]["tokens"] == 4032
    assert "is not a picture" in answer.data[1]["error"]
    assert answer.err.count("is not a picture") == 1


def test_pictures_that_pass_the_context_together_are_no_success(page: Path) -> None:
    assert qwenops("image-tokens", page, "--ctx", 4096).code == 0
    answer = qwenops("image-tokens", page, page, "--ctx", 8064)
    assert answer.code == 1
    assert "num_ctx 8192 or more" in answer.out


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("--min-tokens", 5000), "contradict"),
        (("--family", "qwen9"), "not one of"),
        (("--model", "nothing-here"), "no model of that name"),
        (("--model", "x.gguf", "--family", "qwen3vl"), "twice"),
    ],
)
def test_wrong_wishes_are_refused(page: Path, wrong: tuple[object, ...], said: str) -> None:
    answer = qwenops("image-tokens", page, *wrong)
    assert answer.code == 2
    assert said in answer.err


def test_a_folder_stands_for_the_pictures_in_it(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    for name in ("b.png", "a.JPG", "notes.txt"):
        Image.new("RGB", (640, 480)).save(folder / name, "PNG")
    rows = qwenops("image-tokens", page, folder, "--json").data
    assert [Path(row["file"]).name for row in rows] == ["page.png", "a.JPG", "b.png"]
    (tmp_path / "empty").mkdir()
    assert qwenops("image-tokens", tmp_path / "empty").code == 2
