"""modelfiles/ is what planner and templates make of the catalogue, and each file in it is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwenops.memory.reserve import warmup_saving
from qwenops.modelfile.grammar import parse
from qwenops.modelfile.lint import LintFacts, check
from qwenops.plan.profile import profiles
from scripts.render_modelfiles import CARDS, FOLDER, Example, examples, main, stale, text_of, wanted
from tests.modelfile.conftest import Judge

EXAMPLES = examples()
IDS = [e.file_name for e in EXAMPLES]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWENOPS_HOME", str(tmp_path / "home"))


def test_none_is_stale(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out


def test_there_is_something_for_every_card_and_for_every_task_that_is_not_a_models_own() -> None:
    assert {e.card_gib for e in EXAMPLES} == set(CARDS)
    assert {e.task for e in EXAMPLES} == set(profiles())


@pytest.mark.parametrize("example", EXAMPLES, ids=IDS)
def test_each_has_nothing_for_the_linter_to_find(example: Example, tmp_path: Path) -> None:
    facts = LintFacts(
        layers=example.judged.need.layers.total,
        sees=True,
        has_chat_template=True,
        trained_ctx=128000,
        images=example.judged.choice.images,
        image_tokens=example.judged.choice.picture_tokens,
        ollama_version="0.32.14",
    )
    found = check((FOLDER / example.file_name).read_bytes(), base_dir=tmp_path, facts=facts)
    assert {f.code for f in found} == {"missing-file"}, "only the downloads are missing"


@pytest.mark.parametrize("example", EXAMPLES, ids=IDS)
def test_each_fits_its_card_whole_and_says_what_it_takes(example: Example) -> None:
    need = example.judged.need
    (device,) = need.devices
    assert need.layers.on_device == need.layers.total
    assert need.band.high <= device.free_bytes
    # num_gpu is there exactly where Ollama's own reserve would have moved layers to the CPU.
    # The runtime's fit knows nothing of the driver's share, and of pictures only what it reserves while loading.
    counted = device.total_bytes - device.overhead_bytes
    counted -= warmup_saving(example.judged.choice.model, need.settings, device)
    spills = counted > device.free_bytes - device.reserve_bytes
    assert example.judged.choice.num_gpu == (need.layers.total if spills else None)
    said = " ".join(line.removeprefix("# ") for line in text_of(example).splitlines() if line.startswith("#"))
    parts, total = said.split("): ")[1].split(" of ")[0].split(" = ")
    assert sum(int(p.split()[-1]) for p in parts.split(" + ")) == pytest.approx(int(total), abs=4), "rounded each"
    assert example.repo.repo in said


def test_each_names_files_that_its_repository_has() -> None:
    for e in EXAMPLES:
        model, projector = (c.args for c in parse(text_of(e)).all("model"))
        assert model == "./" + e.repo.model.format(quant=e.judged.choice.model.quant)
        assert projector.startswith("./")
        assert "f16" in projector.lower()


@pytest.mark.go
def test_ollamas_own_parser_reads_each_the_same(judge: Judge) -> None:
    texts = [p.read_text(encoding="utf-8") for p in sorted(FOLDER.rglob("*.Modelfile"))]
    assert len(texts) == len(EXAMPLES)
    for text, answer in zip(texts, judge.parse(texts), strict=True):
        assert answer["commands"] == [{"name": c.name, "args": c.args} for c in parse(text).commands]


def test_check_names_what_is_stale_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, files = tmp_path / "modelfiles", wanted()
    assert main(["--folder", str(folder)]) == 0
    assert stale(folder, files) == []
    first, second = IDS[:2]
    (folder / first).write_text("FROM changed\n")
    (folder / second).unlink()
    (folder / "extra.Modelfile").write_text("FROM x\n")
    assert main(["--check", "--folder", str(folder)]) == 1
    assert stale(folder, files) == sorted([first, second, "extra.Modelfile"])
    said = capsys.readouterr().out
    assert all(f"stale: {folder / name}" in said for name in (first, second, "extra.Modelfile"))
    assert main(["--folder", str(folder)]) == 0
    assert stale(folder, files) == []
    assert not (folder / "extra.Modelfile").exists()
