"""qwenops recommend: one line, why, the table with its front, and what to measure; drawn from files and real rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qwenops import history
from qwenops.errors import BadInput
from qwenops.history import Outcome
from qwenops.machine.detect import detect
from qwenops.model.read import read_variants
from qwenops.report.terminal import render
from qwenops.setup.answers import plan_result
from qwenops.setup.recommend import recommend_result
from tests.support.bench_rows import quality, reading, speed
from tests.support.cli import qwenops
from tests.support.shapes import TEXT, VISION, write_text, write_vision

CARD = "RTX 3060 12GB"
CERS = [0.01 + 0.001 * (n % 5) for n in range(60)]
WORSE = [cer + 0.05 for cer in CERS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    here = tmp_path / "models"
    here.mkdir()
    for quant in ("Q8_0", "Q6_K", "Q4_K_M"):
        write_text(here / f"Qwen3VL-2B-Instruct-{quant}.gguf", TEXT["qwen3-vl-2b"], quant)
    write_vision(here / "mmproj-Qwen3VL-2B-Instruct-F16.gguf", VISION["qwen3-vl-2b"])
    return here


def keep(rows: list[Outcome]) -> None:
    with history.open() as kept:
        kept.record_results(rows)


def test_without_measurements_it_is_the_plans_choice_and_what_to_run(folder: Path) -> None:
    answer = qwenops("recommend", folder, "--for", "ocr", "--gpu", CARD, "--json")
    planned = qwenops("plan", folder, "--for", "ocr", "--gpu", CARD, "--json")
    assert answer.code == planned.code == 0
    assert answer.data["plan"]["choice"] == planned.data["choice"]
    assert answer.data["line"].startswith("Q8_0 + mmproj-Qwen3VL-2B-Instruct-F16.gguf · num_ctx ")
    assert (answer.data["measured"], answer.data["front"]) == (False, [])
    assert answer.data["next"] == [f"qwenops bench ocr {folder}"], "the speed of a described card cannot be measured"
    assert [row["quant"] for row in answer.data["variants"]] == ["Q8_0", "Q6_K", "Q4_K_M"]


def test_what_does_not_fit_ends_as_a_plan_does(folder: Path) -> None:
    answer = qwenops("recommend", folder, "--for", "ocr", "--gpu", "cuda:2GiB")
    assert answer.code == 1
    assert "Does not fit" in answer.out
    assert qwenops("recommend", folder, "--for", "ocrr").code == 2


def test_a_quant_that_reads_better_is_recommended_and_the_plan_says_the_same(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best, _, small = read_variants(folder)
    keep([reading(best, WORSE), reading(small, CERS)])
    result = recommend_result((folder,), None, gpu=CARD, task="ocr")
    data = result.data
    assert data["line"].startswith("Q4_K_M + ")
    (why, *_) = data["why"]
    assert why.startswith("Q4_K_M before Q8_0: measured here, reading is better (CER -5.00 points")
    assert data["front"] == ["Q4_K_M"], "smaller, and reads better"
    render(result, width=80)
    text = capsys.readouterr().out
    assert all(len(line) <= 80 for line in text.splitlines())
    for words in ("Q4_K_M * <", "CER", "6.2", "Q8_0", "Next"):
        assert words in text
    render(plan_result((folder,), None, gpu=CARD, task="ocr"), width=80)
    plan = capsys.readouterr().out
    assert "Q4_K_M before Q8_0: measured here, reading is better" in " ".join(plan.split())
    assert "beside Q8_0, measured" not in plan, "said once"


def test_the_processors_own_speeds_count_on_this_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the whole command, on the machine that the test runs on."""
    here = detect()
    if here.devices:
        pytest.skip("a GPU is here: the plan is for it")
    best, middle, small = (replace(model, projector=None) for model in read_variants(folder))
    rows = [row for n, m in enumerate((best, middle, small)) for row in speed(m, here, tg=10.0 * 2**n, pp=100, n=12)]
    rows += [*quality(best, 0, reference="own"), *quality(middle, 0.0005), *quality(small, 0.03)]
    keep(rows)
    answer = qwenops("recommend", folder, "--for", "chat", "--ctx", "8192", "--json")
    assert answer.code == 0, answer.err
    assert answer.data["line"].startswith("Q6_K"), answer.data["why"]
    assert "quality is worse by less than one notices" in answer.data["why"][0]
    assert {row["quant"]: row["standing"] for row in answer.data["variants"]} == dict.fromkeys(
        ("Q8_0", "Q6_K", "Q4_K_M"), "front"
    )
    assert answer.data["next"] == answer.data["missing"] == []


def test_without_a_model_it_is_the_one_that_was_set_up_here(folder: Path) -> None:
    with pytest.raises(BadInput, match="which model"):
        recommend_result((), None, gpu=CARD, task="chat")
    with history.open() as kept:
        kept.record_recipe("eyes", "/store", {"asked": [str(folder)], "task": "ocr"})
        kept.record_recipe("eyes-too", "/store", {"asked": [str(folder)], "task": "chat"})
    result = recommend_result((), None, gpu=CARD, task="chat")
    assert result.data["line"].startswith("Q8_0")
    assert "what eyes-too was set up from" in result.notes[0]
    with history.open() as kept:
        kept.record_recipe("other", "/store", {"asked": ["qwen3-vl:8b"], "task": "chat"})
    with pytest.raises(BadInput, match="2 models were set up here") as caught:
        recommend_result((), None, gpu=CARD, task="chat")
    assert any("qwenops recommend qwen3-vl:8b     (other)" in line for line in caught.value.do)


def test_a_history_that_cannot_be_read_is_no_reason_against_a_plan(folder: Path, qwenops_home: Path) -> None:
    (qwenops_home / "data").mkdir(parents=True)
    (qwenops_home / "data" / "history.sqlite3").write_text("a letter, no database" * 100)
    assert recommend_result((folder,), None, gpu=CARD, task="chat").data["line"].startswith("Q8_0")
