"""modelfiles/ is what the templates make of it, and each file in it is right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qwenops.modelfile.grammar import parse
from qwenops.modelfile.lint import LintFacts, check
from qwenops.setup.answers import need_result
from scripts.render_modelfiles import EXAMPLES, FOLDER, SOURCES, Example, main, stale
from tests.modelfile.conftest import Judge
from tests.support import shapes

IDS = [e.file_name for e in EXAMPLES]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWENOPS_HOME", str(tmp_path / "home"))


def test_none_is_stale(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("example", EXAMPLES, ids=IDS)
def test_each_has_nothing_for_the_linter_to_find(example: Example, tmp_path: Path) -> None:
    facts = LintFacts(
        layers=SOURCES[example.source].layers,
        sees=True,
        has_chat_template=True,
        trained_ctx=128000,
        images=2 if example.task in ("ocr", "compare") else 1,
        ollama_version="0.32.14",
    )
    found = check((FOLDER / example.file_name).read_bytes(), base_dir=tmp_path, facts=facts)
    assert {f.code for f in found} == {"missing-file"}, "only the downloads are missing"


SHAPES = {
    "qwen3-vl-4b-instruct": ("qwen3-vl-4b", shapes.VISION["qwen3-vl-4b"]),
    "qwen3-vl-8b-instruct": ("qwen3-vl-8b", shapes.VISION["qwen3-vl-8b"]),
    "qwen3-vl-8b-thinking": ("qwen3-vl-8b", shapes.VISION["qwen3-vl-8b"]),
    "qwen2.5-vl-7b-instruct": ("qwen2.5-vl-7b", shapes.VISION["qwen2.5-vl-7b"]),
    "qwen3.5-9b": ("qwen3.5-9b", shapes.VISION["qwen3.5-9b"]),
    "qwen3.6-27b": ("qwen3.6-27b", replace(shapes.VISION["qwen3.5-9b"], out=5120)),
}


@pytest.mark.parametrize("example", EXAMPLES, ids=IDS)
def test_each_fits_its_card_whole(example: Example, tmp_path: Path) -> None:
    text, vision = SHAPES[example.source]
    model = shapes.write_text(tmp_path / "model.gguf", shapes.TEXT[text], example.quant)
    projector = shapes.write_vision(tmp_path / "mmproj-model.gguf", vision)
    card = f"cuda:{example.card_gib}GiB"
    data = need_result(model, projector, gpu=card, rung="closed form", ctx=example.num_ctx).data
    (device,) = data["devices"]
    assert data["layers"] == {"on_device": SOURCES[example.source].layers, "total": SOURCES[example.source].layers}
    assert data["band_bytes"]["high"] <= device["free_bytes"]
    # num_gpu is there exactly where Ollama's own reserve would have moved layers to the CPU.
    spills = device["total_bytes"] > device["free_bytes"] - device["reserve_bytes"]
    assert (example.num_gpu == SOURCES[example.source].layers) if spills else example.num_gpu is None


@pytest.mark.go
def test_ollamas_own_parser_reads_each_the_same(judge: Judge) -> None:
    texts = [p.read_text(encoding="utf-8") for p in sorted(FOLDER.glob("*.Modelfile"))]
    assert len(texts) == len(EXAMPLES)
    for text, answer in zip(texts, judge.parse(texts), strict=True):
        assert answer["commands"] == [{"name": c.name, "args": c.args} for c in parse(text).commands]


def test_check_names_what_is_stale_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "modelfiles"
    assert main(["--folder", str(folder)]) == 0
    assert stale(folder) == []
    first, second = IDS[:2]
    (folder / first).write_text("FROM changed\n")
    (folder / second).unlink()
    (folder / "extra.Modelfile").write_text("FROM x\n")
    assert main(["--check", "--folder", str(folder)]) == 1
    assert stale(folder) == sorted([first, second, "extra.Modelfile"])
    said = capsys.readouterr().out
    assert all(f"stale: {folder / name}" in said for name in (first, second, "extra.Modelfile"))
    assert main(["--folder", str(folder)]) == 0
    assert stale(folder) == []
    assert not (folder / "extra.Modelfile").exists()
