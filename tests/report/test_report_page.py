"""The page as a file: whole, closed, and deaf to whatever stands in names and in what was read."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from qwenops import history
from qwenops.history import Outcome
from qwenops.model.read import read_variants
from qwenops.report.html.page import findings, page
from qwenops.report.html.svg import apart, difference, labelled, nice
from qwenops.report.summary import markdown
from qwenops.report.terminal import render
from qwenops.result import Result
from qwenops.setup.report import report_result
from tests.support.report_rows import fill
from tests.support.shapes import TEXT, VISION, write_text, write_vision

HOSTILE = "<script>alert(1)</script>\"'&|`</title><img src=x onerror=alert(2)>\u202e\x1b[31m"
QUANTS = ("Q8_0", "Q6_K", "Q4_K_M")
VOID = {"meta", "link", "input", "br", "hr", "img"}


class Reader(HTMLParser):
    """Elements and attributes, with a check that every element is closed where it should be."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("qwen3-vl-2b")
    for quant in QUANTS:
        write_text(place / f"qwen3-vl-2b-{quant}.gguf", TEXT["qwen3-vl-2b"], quant)
    write_vision(place / "mmproj-qwen3-vl-2b-F16.gguf", VISION["qwen3-vl-2b"])
    return place


@pytest.fixture(scope="module")
def data(folder: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("QWENOPS_HOME", str(folder / "home"))
        with history.open() as kept:
            fill(kept, read_variants(folder))
        return dict(report_result((folder,), gpus=("RTX 3060 12GB", "8GiB")).data)


def hostile_rows() -> list[Outcome]:
    page_ = {"page": HOSTILE, "kind": HOSTILE, "cer": 0.5, "wer": 1.0, "truth": HOSTILE, "read": HOSTILE[::-1]}
    shared = {"model": HOSTILE, "quant": HOSTILE, "engine": HOSTILE, "device": HOSTILE}
    figures = {"ppl": 8.0, "ppl_error": 0.1, "kld_mean": 0.1, "kld_error": 0.01, "same_top": 0.9}
    return [
        Outcome(kind="speed", test="pp512", samples=(1.0, 2.0, 3.0), unit="t/s", **shared),
        Outcome(kind="speed", test=HOSTILE, samples=(1.0, 2.0, 3.0), unit=HOSTILE, **shared),
        Outcome(kind="quality", test="kld c512", samples=(0.1,), settings={"figures": figures, "ctx": 512}, **shared),
        Outcome(kind="reading", test=HOSTILE, samples=(page_,), unit="page", **shared),
        Outcome(kind="vision", test=HOSTILE, samples=({"right": True, "iou": None},), **shared),
    ]


def test_the_page_is_closed_and_small_and_asks_for_nothing(data: dict[str, Any]) -> None:
    text = page(data)
    reader = read(text)
    assert len(text.encode()) < 1_500_000
    names = {name for name, _ in reader.elements}
    assert not names & {"iframe", "object", "embed", "form", "base"}
    for name, attributes in reader.elements:
        for key in ("src", "href", "action", "srcset", "poster", "xlink:href"):
            address = attributes.get(key)
            assert address is None or address.startswith("#") or address == "data:,", (name, attributes)
        assert "style" not in attributes, (name, attributes)
        assert not [key for key in attributes if key.startswith("on")], (name, attributes)


def test_the_policy_names_the_style_and_the_script_by_their_hashes(data: dict[str, Any]) -> None:
    text = page(data)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    said = policy[1].replace("&#39;", "'")
    assert "default-src 'none'" in said
    assert "unsafe" not in said
    for element in ("style", "script"):
        (inside,) = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in said


def test_every_image_has_a_title_and_every_table_a_caption_and_heads(data: dict[str, Any]) -> None:
    reader = read(page(data))
    tables = sum(name == "table" for name, _ in reader.elements)
    assert tables == sum(name == "caption" for name, _ in reader.elements)
    assert all(a.get("scope") in ("col", "row") for name, a in reader.elements if name == "th")
    images = [a for name, a in reader.elements if name == "svg" and a.get("role") == "img"]
    assert len(images) <= sum(name == "title" for name, _ in reader.elements) - 1
    assert images


def test_ids_are_unique_and_labels_point_at_controls(data: dict[str, Any]) -> None:
    elements = read(page(data)).elements
    ids = [a["id"] for _, a in elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert all(a["for"] in ids for name, a in elements if name == "label")
    for _, attributes in elements:
        for named in (attributes.get("aria-labelledby") or "").split():
            assert named in ids


def test_hostile_names_and_texts_are_text_in_every_view(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with history.open() as kept:
        kept.record_results(hostile_rows())
    result = report_result(())
    text = page(result.data)
    names = [name for name, _ in read(text).elements]
    assert names.count("script") == 3
    assert "img" not in names
    assert "\u202e" not in text
    assert "[U+202E]" in text
    assert "\x1b" not in text
    said = markdown(result.data)
    assert "<script>" not in said
    assert "\x1b" not in said
    render(result, width=100)
    drawn = capsys.readouterr().out
    assert "\x1b[31m" not in drawn
    assert "\u202e" not in drawn
    json.dumps(result.envelope(), ensure_ascii=False).encode()


def test_lone_surrogates_of_a_file_name_do_not_break_any_view(tmp_path: Path) -> None:
    odd = tmp_path / "m\udcff-Q8_0.gguf"
    write_text(odd, TEXT["qwen3-0.6b"], "Q8_0")
    result = report_result((odd,), gpus=("8GiB",), output=tmp_path / "r.html")
    assert "m\ufffd-Q8_0.gguf" in (tmp_path / "r.html").read_text(encoding="utf-8")
    json.dumps(result.envelope(), ensure_ascii=False).encode()


def test_no_folder_of_the_user_is_in_the_page(folder: Path, data: dict[str, Any]) -> None:
    assert str(folder.parent) not in page(data)
    assert str(Path.home()) not in page(data)


def test_what_is_missing_says_what_to_run(tmp_path: Path) -> None:
    text = page(report_result(()).data)
    for command in ("bench speed", "bench quality", "bench ocr", "bench vision", "qwenops up"):
        assert f"<code>qwenops {command.removeprefix('qwenops ')}" in text
    assert 'id="explore"' not in text


def test_the_findings_claim_no_difference_that_was_not_shown(data: dict[str, Any]) -> None:
    said = "\n".join(findings(data))
    assert "Memory came as predicted within" in said
    assert "no difference shown to" in next(line for line in findings(data) if "misread" in line)


def test_markdown_has_every_part_and_a_cell_for_every_head(data: dict[str, Any]) -> None:
    said = markdown(data)
    for title in ("Machine", "Plan", "What fits", "Speed", "Quality", "Reading", "Seeing"):
        assert f"## {title}" in said
    tables = [block.split("\n") for block in said.split("\n\n") if block.startswith("|")]
    assert len(tables) >= 8
    for rows in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows if row.startswith("|")}) == 1


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_view_holds_its_width(
    data: dict[str, Any], width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    render(Result("qwenops.report/1", data), width=width)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert any("chosen" in line for line in lines)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 60, (0, 20, 40, 60)),
        (0, 0.019, (0, 0.005, 0.01, 0.015, 0.02)),
        (4.2, 6.3, (4, 5, 6, 7)),
        (0, 0, (0, 0.25, 0.5, 0.75, 1)),
    ],
)
def test_ticks_are_round_and_hold_the_values(low: float, high: float, ticks: tuple[float, ...]) -> None:
    assert nice(low, high) == pytest.approx(ticks)


def test_ticks_have_as_many_digits_as_they_need() -> None:
    assert [said for _, said in labelled((0, 0.005, 0.01))] == ["0.000", "0.005", "0.010"]
    assert [said for _, said in labelled((0, 500, 1000))] == ["0", "500", "1 000"]


def test_ticks_that_would_touch_on_a_phone_are_left_out_but_not_the_last() -> None:
    marks = [(float(n), str(n)) for n in (0, 512, 1024, 16384, 32768)]
    assert [said for _, said in apart(marks, 0, 32768)] == ["0", "16384", "32768"]


def test_a_difference_marks_what_is_missing_and_what_is_new() -> None:
    assert difference("total 4.45", "total 4.46") == "total 4.4<del>5</del><ins>6</ins>"
    assert difference("a<b", "") == "<del>a&lt;b</del>"
