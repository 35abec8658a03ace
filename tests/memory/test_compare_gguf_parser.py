"""The comparison with gguf-parser-go: what counts as closer, and that the other one really answers."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from qwenops.memory.closed_form import closed_form
from qwenops.memory.types import LoadSettings
from scripts.beside.cases import CASES, LARGEST_BYTES, SOFTWARE_GPU, drawn_case, held_in_one_piece, largest_on_device
from scripts.beside.page import page
from scripts.beside.rows import Row
from scripts.compare_gguf_parser import Asked, both, built
from tests.support.shapes import TEXT, VISION, text_model, write_text, write_vision

ROW = Row("a model", "dense", "context 4096", {"weights": 100.0}, {"weights": 101.0}, {"weights": 102.0})


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (ROW, None),
        (replace(ROW, ours={"weights": 97.0}), "further off"),
        (replace(ROW, kind="hybrid"), "only 2.0 times closer"),
        (replace(ROW, kind="vision", theirs={"weights": 110.0}), None),
        (replace(ROW, kind="hybrid", other_build=True), None),
        (replace(ROW, kind="hybrid", ours={"weights": 104.0}, other_build=True), "further off"),
        (replace(ROW, ours={"weights": 100.04}, theirs={"weights": 100.0}), None),
    ],
    ids=[
        "closer is enough on a dense model",
        "further off is not",
        "a hybrid must be ten times closer",
        "and so must vision",
        "but for another build",
        "which must not be further off either",
        "what a log's rounding hides is no difference",
    ],
)
def test_the_bar(row: Row, fault: str | None) -> None:
    assert row.fault == fault


def test_the_page_names_what_is_outside_the_bar() -> None:
    bad = replace(ROW, kind="hybrid", how="context 8192")
    text = page([ROW, bad], [replace(ROW, origin="https://example.org/log")], "v1.2.3", 7)
    assert "- 2 of 3 loads within the bar" in text
    assert "- a model, context 8192: only 2.0 times closer" in text
    assert "1. https://example.org/log" in text


def test_nothing_is_compared_that_the_software_device_leaves_on_the_host() -> None:
    dice = random.Random(5)
    cases = [*CASES, *(drawn_case(dice) for _ in range(20))]
    for shape, quant, _, _ in cases:
        assert largest_on_device(text_model(held_in_one_piece(shape, quant), quant)) <= LARGEST_BYTES, (shape, quant)


def test_cases_are_drawn_the_same_again() -> None:
    first, second = ([drawn_case(random.Random(3)) for _ in range(2)] for _ in range(2))
    assert first == second


@pytest.mark.go
def test_the_other_answers_for_text_and_projector(tmp_path: Path) -> None:
    program, version = built(tmp_path)
    assert version.startswith("v")
    model = write_text(tmp_path / "m.gguf", TEXT["llama-3.1-8b"])
    projector = write_vision(tmp_path / "p.gguf", VISION["qwen3-vl-2b"])
    asked = Asked("both", model, projector, LoadSettings(num_ctx=8192), SOFTWARE_GPU, flash=True)
    ours, theirs = both(asked, program)
    assert theirs["cache"] == ours["cache"] == 1024.0
    assert theirs["projector"] == pytest.approx(ours["projector"], rel=0.001)
    assert theirs["compute"] > 0 < theirs["encoder"]
    need = closed_form(text_model(TEXT["llama-3.1-8b"]), asked.settings, (SOFTWARE_GPU,))
    assert ours["compute"] == need.devices[0].compute_bytes / 1024**2
