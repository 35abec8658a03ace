"""What a report holds: the newest of each measurement, of the models that were asked about, and nothing invented."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenops import history
from qwenops.history import Outcome
from qwenops.model.read import model_key, read_model
from qwenops.model.types import Model
from qwenops.plan.explorer import value_at
from qwenops.report.known import verdict
from qwenops.setup.report import report_result
from tests.support.cli import qwenops
from tests.support.report_rows import fill, load, of, quality, reading
from tests.support.server import OllamaServer
from tests.support.shapes import TEXT, VISION, write_text, write_vision

NO_ROWS: tuple[str, ...] = ("memory", "speed", "quality", "reading", "vision")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    for quant in ("Q8_0", "Q4_K_M"):
        write_text(place / f"qwen3-vl-2b-{quant}.gguf", TEXT["qwen3-vl-2b"], quant)
    write_vision(place / "mmproj-qwen3-vl-2b-F16.gguf", VISION["qwen3-vl-2b"])
    return place


@pytest.fixture
def model(folder: Path) -> Model:
    return read_model(folder / "qwen3-vl-2b-Q8_0.gguf")


def keep(*outcomes: Outcome) -> None:
    with history.open() as kept:
        kept.record_results(outcomes)


def told(part: str, *given: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = report_result(given, gpus=("4GiB",)).data[part]
    return rows


def speed(model: Model, *samples: float, test: str = "pp512", **settings: Any) -> Outcome:
    return of(model, kind="speed", test=test, unit="t/s", samples=samples, settings=settings)


# --- which rows


def test_an_empty_history_is_an_empty_report() -> None:
    result = report_result(())
    assert result.exit_code == 0
    assert [result.data[part] for part in NO_ROWS] == [[]] * 5
    assert result.data["explorer"] is None


def test_of_what_was_measured_twice_the_newest_counts(model: Model) -> None:
    keep(speed(model, 10.0), speed(model, 20.0), speed(model, 30.0, test="pp512 @ d4096"))
    assert [(row["depth"], row["value"]) for row in told("speed")] == [(0, 20.0), (4096, 30.0)]


def test_settings_in_which_variants_differ_are_in_their_names(model: Model) -> None:
    keep(speed(model, 10.0, ubatch=256, kv_type="q8_0"), speed(model, 12.0, ubatch=512, kv_type="q8_0"))
    assert [row["label"] for row in told("speed")] == ["Q8_0, KV q8_0, ubatch 256", "Q8_0, KV q8_0, ubatch 512"]


def test_settings_that_are_the_same_for_all_are_not(model: Model) -> None:
    keep(speed(model, 10.0, ubatch=256), speed(model, 12.0, ubatch=256, test="tg128"))
    assert {row["label"] for row in told("speed")} == {"Q8_0"}


def test_few_runs_have_no_interval(model: Model) -> None:
    keep(speed(model, 10.0, 11.0), speed(model, *(10.0 + n / 10 for n in range(9)), test="tg128"))
    few, many = told("speed")
    assert (few["interval"], few["low"], few["high"]) == (False, 10.5, 10.5)
    assert many["interval"]
    assert many["low"] < many["value"] < many["high"]


def test_models_that_were_named_leave_the_others_out(folder: Path, model: Model) -> None:
    other = read_model(folder / "qwen3-vl-2b-Q4_K_M.gguf")
    keep(speed(model, 10.0), speed(other, 20.0))
    assert [row["value"] for row in told("speed", folder / "qwen3-vl-2b-Q4_K_M.gguf")] == [20.0]


def test_text_is_measured_without_the_projector_and_belongs_to_the_model_all_the_same(model: Model) -> None:
    keep(*quality(model, 1, random.Random(0)))
    (row,) = told("quality", model.path)
    assert model_key(model) != model_key(replace(model, projector=None))
    assert row["file_bytes"] == model.file_bytes


def test_rows_of_older_versions_are_found_by_their_names(model: Model) -> None:
    keep(replace(speed(model, 10.0), model_key=""))
    assert len(told("speed", model.path)) == 1


def test_rows_of_another_form_are_left_out_and_the_rest_is_shown(model: Model) -> None:
    odd = replace(speed(model, 1.0), evidence={"memory": {"planned": {"devices": 3}}, "busy": ["hot"]})
    with history.open() as kept:
        kept.record_results([odd, replace(reading(model, 0, random.Random(0)), samples=(1, 2))])
        kept.record_load("k", "s", "b", "d", {"settings": None}, {"devices": []}, ok=True)
        kept.record_load("k", "s", "b", "d", {"model": {"file": "/gone.gguf"}}, {}, ok=True)
    assert told("memory") == []
    assert len(told("speed")) == 1


# --- what they say


def test_a_load_is_compared_without_the_encoder_and_without_what_is_in_no_buffer(model: Model) -> None:
    with history.open() as kept:
        load(kept, model, off_bytes=40_000)
    (row,) = told("memory")
    assert row["compared"]["measured_bytes"] - row["compared"]["predicted_bytes"] == 40_000
    assert row["measured_bytes"] < row["predicted_bytes"]
    assert row["label"] == "Q8_0"


def test_a_benchmarks_peak_stands_beside_its_plan(model: Model) -> None:
    planned = {"rung": "closed form", "host": {"weights_bytes": 900, "kv_bytes": 100}, "devices": {}}
    memory = {"planned": planned, "peak_host_bytes": 1500, "idle_host_bytes": 450, "peak_device_bytes": None}
    keep(replace(speed(model, 10.0), evidence={"memory": memory}))
    (row,) = told("memory")
    assert (row["where"], row["predicted_bytes"], row["measured_bytes"]) == ("host", 1000, 1050)


def test_the_front_is_what_nothing_measured_is_both_smaller_and_closer_than(folder: Path, model: Model) -> None:
    other = read_model(folder / "qwen3-vl-2b-Q4_K_M.gguf")
    better, worse = quality(model, 2, random.Random(0)), quality(other, 1, random.Random(0))
    keep(*better, *worse)
    assert {row["label"]: row["front"] for row in told("quality", folder)} == {"Q8_0": False, "Q4_K_M": True}


def test_examples_are_of_several_kinds_and_nearly_right_ones_first(model: Model) -> None:
    keep(reading(model, 3, random.Random(1)))
    (row,) = told("reading")
    assert len({example["kind"] for example in row["examples"]}) == 4
    assert "INVOICE 4211" in row["examples"][0]["read"]
    assert row["cer"]["low"] <= row["cer"]["value"] <= row["cer"]["high"]
    assert row["loops"] == 1


def test_without_names_the_explorer_has_the_models_whose_files_are_still_what_they_were(
    folder: Path, tmp_path: Path
) -> None:
    gone = tmp_path / "gone-Q8_0.gguf"
    write_text(gone, TEXT["qwen3-0.6b"], "Q8_0")
    with history.open() as kept:
        fill(kept, [read_model(folder / "qwen3-vl-2b-Q8_0.gguf"), read_model(gone)])
    gone.unlink()
    explorer = report_result((), gpus=("12GiB",)).data["explorer"]
    assert [m["file"] for m in explorer["models"]] == ["qwen3-vl-2b-Q8_0.gguf"]
    assert explorer["models"][0]["sees"]


def test_several_models_have_a_plan_each(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "qwen3-0.6b-Q8_0.gguf"
    write_text(other, TEXT["qwen3-0.6b"], "Q8_0")
    data = report_result((folder, other), gpus=("8GiB",), task="ocr").data
    assert [plan["fits"] for plan in data["plans"]] == ["yes", "yes"]
    assert data["explorer"]["start"]["num_ctx"] == data["plans"][0]["choice"]["num_ctx"]


def test_the_start_of_the_explorer_is_the_plan_to_the_byte(folder: Path) -> None:
    data = report_result((folder,), gpus=("8GiB",), task="ocr").data
    (plan,) = data["plans"]
    start, explorer = data["explorer"]["start"], data["explorer"]
    model = explorer["models"][start["model"]]
    assert model["file"] == plan["choice"]["file"]
    assert start["num_ctx"] in model["contexts"]
    assert (start["kv_type"], start["ubatch"]) == (plan["choice"]["kv_type"], plan["choice"]["ubatch"])


@pytest.mark.server
def test_on_this_machine_the_figures_are_those_of_need(ollama_server: OllamaServer, smollm: Path) -> None:
    env = ollama_server.env
    explorer = json.loads(qwenops("report", smollm, "--json", env=env).out)["explorer"]
    (card,), (model,) = explorer["cards"], explorer["models"]
    at = (0, model["contexts"].index(4096), 0)
    shape = (len(model["caches"]), len(model["contexts"]), len(model["image_limits"]))
    grid = model["grids"][0]
    ubatch = explorer["start"]["ubatch"]
    words = ("need", smollm, "--rung", "closed-form", "--ctx", 4096, "--ubatch", ubatch, "--json")
    data = json.loads(qwenops(*words, env=env).out)
    for columns, device, said in zip(grid["devices"], card["devices"], data["devices"], strict=True):
        assert device["name"] == said["name"]
        parts = {name: value_at(column, shape, at) for name, column in columns.items() if name not in ("low", "high")}
        assert sum(parts.values()) == said["total_bytes"]
    assert verdict(explorer, model, 0, at) == data["fits"]


# --- where it goes


def test_the_page_replaces_an_older_one_and_says_where_it_is(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    for _ in range(2):
        answer = qwenops("report", folder, "--gpu", "8GiB", "-o", page)
        assert answer.code == 0
        assert f"Written to {page}" in " ".join(answer.out.split())
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert list(tmp_path.glob(".r.html*")) == []


def test_a_file_that_is_no_report_is_kept_unless_force_is_said(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "thesis.html"
    mine.write_text("mine")
    refused = qwenops("report", "--gpu", "8GiB", "-o", mine)
    assert refused.code == 2
    assert "is no report of qwenops" in refused.err
    assert "--force" in refused.err
    assert mine.read_text() == "mine"
    assert qwenops("report", "--gpu", "8GiB", "-o", mine, "--force").code == 0
    assert mine.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("where", "said", "step"),
    [("missing/r.html", "there is no folder", "mkdir -p"), (".", "is a folder", "report.html")],
)
def test_where_it_cannot_be_written_is_said_before_anything_is_worked_out(
    tmp_path: Path, where: str, said: str, step: str
) -> None:
    answer = qwenops("report", "no-such-model.gguf", "-o", tmp_path / where)
    assert answer.code == 2
    assert said in answer.err
    assert step in answer.err


def test_a_dash_is_the_standard_output() -> None:
    answer = qwenops("report", "-o", "-")
    assert answer.out.startswith("<!doctype html>")
    assert answer.out.rstrip().endswith("</html>")


def test_markdown_and_json_are_of_the_same_data(folder: Path) -> None:
    assert "| Q4\\_K\\_M |" in qwenops("report", folder, "--gpu", "8GiB", "--markdown").out
    data = json.loads(qwenops("report", folder, "--gpu", "8GiB", "--json").out)
    assert data["schema"] == "qwenops.report/1"
    assert str(folder) not in json.dumps(data)


def test_a_task_that_does_not_exist_names_the_nearest() -> None:
    answer = qwenops("report", "--for", "ocrr")
    assert answer.code == 2
    assert "--for ocr" in answer.err
