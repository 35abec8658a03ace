"""What people see is drawn from the same data as the JSON, at any width, and says where figures come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwenops.report.terminal import VIEWS, render, view_of
from qwenops.result import Result
from qwenops.setup.answers import compare_result, machine_result, need_result, plan_result
from qwenops.units import human
from tests.support.shapes import TEXT, VISION, write_text, write_vision


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for quant in ("Q8_0", "Q4_K_M"):
        write_text(tmp_path / f"Qwen3VL-8B-Instruct-{quant}.gguf", TEXT["qwen3-vl-8b"], quant)
    write_vision(tmp_path / "mmproj-Qwen3VL-8B-Instruct-F16.gguf", VISION["qwen3-vl-8b"])
    return tmp_path


def drawn(result: Result, capsys: pytest.CaptureFixture[str], width: int) -> str:
    render(result, width=width)
    return capsys.readouterr().out


@pytest.mark.parametrize("schema", VIEWS)
def test_every_view_that_is_named_is_there(schema: str) -> None:
    assert callable(view_of(f"{schema}/1"))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_need_fits_the_width_and_shows_the_total_the_band_and_the_source(
    folder: Path, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    file = folder / "Qwen3VL-8B-Instruct-Q4_K_M.gguf"
    result = need_result(file, None, gpu="RTX 4090", rung="closed form", ctx=16384)
    text = drawn(result, capsys, width)
    assert all(len(line) <= width for line in text.splitlines())
    assert human(result.data["total_device_bytes"]) in text
    assert "source: formula" in text
    assert "fits" in text


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("gpu", ["RTX 4090", "none", "cuda:8GiB,cuda:8GiB"])
def test_rungs_side_by_side_fit_the_width_and_show_every_place(
    folder: Path, capsys: pytest.CaptureFixture[str], width: int, gpu: str
) -> None:
    result = compare_result(folder / "Qwen3VL-8B-Instruct-Q4_K_M.gguf", None, gpu=gpu, ctx=16384)
    text = drawn(result, capsys, width)
    assert all(len(line) <= width for line in text.splitlines())
    first = [line.split()[0] for line in text.splitlines() if line and not line.startswith(" ")]
    places = [d["name"] for d in result.data["answers"][0]["devices"]]
    assert [word for word in first if word in {*places, "host"}] == [*places, "host"]
    assert "formula" in text
    assert ("band" in text) is bool(places)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("gpu", ["RTX 3060 12GB", "6GiB", "none", "cuda:8GiB,cuda:8GiB"])
def test_a_plan_fits_the_width_whether_or_not_the_model_fits_the_card(
    folder: Path, capsys: pytest.CaptureFixture[str], width: int, gpu: str
) -> None:
    result = plan_result((folder,), None, gpu=gpu, task="ocr")
    text = drawn(result, capsys, width)
    assert all(len(line) <= width for line in text.splitlines())
    if result.data["choice"]:
        assert f"num_ctx {result.data['choice']['num_ctx']}" in text
    else:
        assert "Does not fit" in text
        for number in range(1, len(result.data["nearest"]) + 1):
            assert f"  {number}  " in text


def test_the_machine_view_says_so_when_there_is_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert "models run on the CPU" in drawn(machine_result("none"), capsys, 80)
