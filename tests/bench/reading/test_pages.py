"""Made pages: the same pixels everywhere, more of them begin with the fewer, and every letter is in its font."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from qwenops.bench.reading import ink, kinds
from qwenops.bench.reading.made import made_page, made_pages
from qwenops.bench.reading.paper import blurred, chance_of, compressed, noisy, turned
from qwenops.errors import BadInput, PartMissing
from tests.support.cli import qwenops

SAME_EVERYWHERE = "679a26ce966d9036"
"""Of pages 1 to 14 with seed 1; equal under Pillow 10.1, 11.0, 12.0 and 13.0, whose FreeTypes draw differently."""


def pixels(png: bytes) -> bytes:
    return Image.open(io.BytesIO(png)).tobytes()


def test_the_pages_are_those_that_everybody_has() -> None:
    told = hashlib.sha256()
    for page in made_pages(14, 1).pages:
        told.update(page.truth.encode() + pixels(page.png))
    assert told.hexdigest()[:16] == SAME_EVERYWHERE


def test_more_pages_begin_with_the_fewer_and_a_seed_changes_all_of_them() -> None:
    few, many = made_pages(4, 7, ["codes", "greek"]), made_pages(6, 7, ["codes", "greek"])
    assert many.pages[:4] == few.pages
    assert [p.id for p in many.pages[:3]] == ["codes-001", "greek-001", "codes-002"]
    other = made_pages(4, 8, ["codes", "greek"])
    assert not {p.truth for p in few.pages} & {p.truth for p in other.pages}


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_every_letter_of_a_page_is_in_its_font(kind: str) -> None:
    for nth in range(1, 9):
        drawn = kinds.KINDS[kind](chance_of("letters", kind, nth))
        assert kinds.letters_missing(kind, drawn) == ""


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_no_text_runs_off_its_page(kind: str) -> None:
    page = made_page(kind, 3, 5)
    grey = np.asarray(Image.open(io.BytesIO(page.png)), np.int16)
    rim = np.concatenate([grey[:4].ravel(), grey[-4:].ravel(), grey[:, :4].ravel(), grey[:, -4:].ravel()])
    spread = 255 if kind == "noise" else 3
    assert int(rim.max()) - int(rim.min()) <= spread
    assert page.width * page.height < 1_500_000


def test_a_form_says_what_is_printed_on_it() -> None:
    page = made_page("fields", 2, 1)
    assert page.fields is not None
    assert list(page.fields) == ["company", "address", "date", "number", "total"]
    assert all(value in page.truth for value in page.fields.values())


def test_letters_have_the_ink_that_their_outline_has() -> None:
    """The area of a shape does not depend on how finely it is drawn."""
    face = ink.face("sans")
    for character in "OHi8&":
        areas = [sum(face.letter(character, size)[0].tobytes()) / 255 / size**2 for size in (24, 96)]
        assert areas[0] == pytest.approx(areas[1], rel=0.02)


def test_an_unknown_kind_and_a_missing_font_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="no pages of kind 'cuneiform'"):
        made_pages(1, 1, ["cuneiform"])
    ink.face.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "noto_cjk_sans_otc", None)
    try:
        with pytest.raises(PartMissing, match="no font with Chinese") as missing:
            made_pages(1, 1, ["chinese"])
        assert missing.value.do == ("pip install noto-cjk-sans-otc",)
        rest = made_pages(14, 1)
        assert "chinese" not in {page.kind for page in rest.pages}
        assert "no pages in Chinese" in rest.notes[0]
    finally:
        ink.face.cache_clear()


@settings(max_examples=20)
@given(st.integers(20, 90), st.integers(20, 90), st.integers(-80, 80))
def test_a_turned_sheet_keeps_its_ink(width: int, height: int, tenths: int) -> None:
    sheet = Image.new("L", (width, height), 255)
    sheet.paste(0, (6, 6, width - 6, height - 6))
    back = turned(sheet, tenths, 255)
    dark = [sum(255 - v for v in image.tobytes()) for image in (sheet, back)]
    assert dark[1] == pytest.approx(dark[0], rel=0.03)


def test_wear_is_the_same_for_the_same_seed_and_leaves_the_paper_its_grey() -> None:
    sheet = Image.new("L", (200, 100), 128)
    assert noisy(sheet, 20, 3).tobytes() == noisy(sheet, 20, 3).tobytes() != noisy(sheet, 20, 4).tobytes()
    assert np.asarray(noisy(sheet, 20, 3)).mean() == pytest.approx(128, abs=1)
    assert blurred(sheet, 2).tobytes() == sheet.tobytes()
    assert compressed(sheet, 30).size == sheet.size


def test_pages_are_saved_as_a_folder_reads_them(tmp_path: Path) -> None:
    told = qwenops(
        "bench", "ocr", "--save-pages", tmp_path / "pages", "--pages", 3, "--kind", "clean", "--kind", "fields"
    )
    assert told.code == 0, told.err
    assert sorted(p.name for p in (tmp_path / "pages").iterdir()) == [
        *("clean-001.png", "clean-001.txt", "clean-002.png", "clean-002.txt"),
        *("fields-001.json", "fields-001.png"),
    ]
    assert "3 pages" in told.out
