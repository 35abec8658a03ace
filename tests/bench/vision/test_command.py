"""The command: a reader that knows is all right, both engines go through, pictures are saved with their answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qwenops import history
from qwenops.bench.reading.cells import Cell, fill
from qwenops.bench.reading.types import Asking, Page
from qwenops.bench.vision.scenes import made_scenes
from qwenops.setup.seers import Row
from qwenops.setup.vision import judged_of, questions_of, row_data
from tests.bench.reading.readers import KnownReader, Says
from tests.support.cli import qwenops
from tests.support.tiny import TinyModel

SCENES = made_scenes(16, 1)


def told_of(name: str, says: Says) -> dict[str, Any]:
    pages = [Page(s.id, s.kind, s.expected, b"", 1, 1) for s in SCENES]
    cell = Cell(KnownReader(name, pages, says), Asking())
    fill(cell, questions_of(SCENES, cell.reader), lambda *_: None)
    row = Row(name, Asking(), cell)
    return row_data(row, SCENES, judged_of(row, SCENES))


def test_readers_that_know_guess_or_are_silent() -> None:
    knows = told_of("knows", lambda p: (p.truth, "stop"))
    assert knows["answered"] == 12  # its family is not known: no boxes are asked for
    assert knows["right"]["value"] == 1
    assert list(knows["kinds"]) == ["count", "relation", "difference"]
    guesses = told_of("guesses", lambda p: ("5 left red circle", "stop"))
    assert 0 < guesses["right"]["value"] < 0.7
    silent = told_of("silent", lambda p: ("", "stop"))
    assert (silent["right"]["value"], silent["empty"]) == (0, 12)
    assert silent["wrong"][0]["expected"] == SCENES[0].expected


@pytest.mark.library
@pytest.mark.slow
def test_every_kind_goes_through_a_model_and_into_the_history(
    tiny_qwen3vl: TinyModel, tiny_qwen25vl: TinyModel
) -> None:
    asked = ("bench", "vision", tiny_qwen3vl.model, tiny_qwen25vl.model, "--image-tokens", 32, "--questions", 4)
    told = qwenops(*asked, "--threads", 1, "--most-tokens", 8, "--json")
    assert told.code == 0, told.err
    rows = told.data["results"]
    assert [list(row["kinds"]) for row in rows] == [["count", "relation", "difference", "ground"]] * 2
    assert [row["right"]["value"] for row in rows] == [0, 0]
    assert [row["iou"]["value"] for row in rows] == [0, 0]
    assert rows[0]["samples"][2]["prompt_tokens"] > rows[0]["samples"][1]["prompt_tokens"] + 20  # two pictures
    with history.open() as kept:
        found = kept.results(kind="vision")
    assert [row.test for row in found[:4]] == [f"vision {k}" for k in ("count", "relation", "difference", "ground")]
    assert found[3].samples[0]["iou"] == 0
    shown = qwenops(*asked, "--threads", 1, "--most-tokens", 8)
    assert shown.code == 0
    assert "score the same on each of 4 questions" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 110


def test_pictures_are_saved_with_their_answers(tmp_path: Path) -> None:
    told = qwenops("bench", "vision", "--questions", 4, "--save-pages", tmp_path / "scenes")
    assert told.code == 0, told.err
    questions = json.loads((tmp_path / "scenes/questions.json").read_text())
    assert [len(q["pictures"]) for q in questions] == [1, 1, 2, 1]
    assert all((tmp_path / "scenes" / name).exists() for q in questions for name in q["pictures"])


def test_without_a_model_or_with_a_wrong_kind_it_says_what_to_type() -> None:
    for more, said in (((), "no model was named"), (("--kind", "x", "--save-pages", "y"), "no questions of kind")):
        told = qwenops("bench", "vision", *more)
        assert (told.code, said in told.err) == (2, True), told.err
