"""What was typed for a model: files here, references elsewhere, and what refuses the latter."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qwenops.cli.common import REFERENCES
from qwenops.errors import BadInput, QwenopsError
from qwenops.memory.probe import probe
from qwenops.memory.types import LoadSettings
from qwenops.model.read import read_model
from qwenops.model.reference import SCHEMES
from qwenops.setup.given import must_be_here, only_one, variants
from tests.support.cli import qwenops
from tests.support.runtime import software_runtime
from tests.support.shapes import TEXT, VISION, write_text, write_vision
from tests.support.tiny import TinyModel
from tests.support.web import Web, serving

CARD = ("--gpu", "RTX 3060 12GB")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A hub with two quants of a model and its projector, which lie in `tmp_path` too."""
    for quant in ("Q4_K_M", "Q8_0"):
        write_text(tmp_path / f"Eyes-{quant}.gguf", TEXT["qwen3-vl-8b"], quant)
    write_vision(tmp_path / "mmproj-F16.gguf", VISION["qwen3-vl-8b"])
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with serving() as web, serving("127.0.0.2") as cdn:
        monkeypatch.setenv("HF_ENDPOINT", web.url)
        web.repository("maker/eyes", {p.name: p for p in tmp_path.glob("*.gguf")}, cdn)
        yield web


def test_the_command_line_knows_every_scheme() -> None:
    assert REFERENCES == SCHEMES


def test_need_of_a_reference_is_need_of_the_file(hub: Web, tmp_path: Path) -> None:
    there = qwenops("need", "hf:maker/eyes:Q4_K_M", *CARD, "--json").data
    here = qwenops("need", tmp_path / "Eyes-Q4_K_M.gguf", *CARD, "--json").data
    assert there["model"].pop("file") == "hf:maker/eyes:Eyes-Q4_K_M.gguf"
    assert there["model"].pop("projector") == "hf:maker/eyes:mmproj-F16.gguf"
    del here["model"]["file"], here["model"]["projector"]
    # what is free on the host differs from one moment to the next
    for data in (here, there):
        data.pop("host_available_bytes", None)
    assert there == here


def test_plan_chooses_among_the_quants_of_a_repository(hub: Web, tmp_path: Path) -> None:
    there = qwenops("plan", "hf:maker/eyes", "--for", "ocr", *CARD, "--json")
    here = qwenops("plan", tmp_path, "--for", "ocr", *CARD, "--json")
    assert there.code == here.code == 0
    chosen, same = there.data["choice"], here.data["choice"]
    assert chosen["file"] == f"hf:maker/eyes:{Path(same['file']).name}"
    assert {k: v for k, v in chosen.items() if k not in ("file", "projector")} == {
        k: v for k, v in same.items() if k not in ("file", "projector")
    }
    shown = qwenops("plan", "hf:maker/eyes", "--for", "ocr", *CARD, "--offline")
    assert f"{chosen['quant']} + mmproj-F16.gguf" in shown.out


def test_a_file_here_is_planned_beside_one_elsewhere(hub: Web, tmp_path: Path) -> None:
    models = variants((tmp_path / "Eyes-Q4_K_M.gguf", "hf:maker/eyes:Q8_0"), None)
    assert [(m.quant, bool(m.remote)) for m in models] == [("Q8_0", True), ("Q4_K_M", False)]


def test_up_sends_elsewhere_for_what_neither_the_hub_nor_a_registry_has() -> None:
    answer = qwenops("up", "https://models.example/eyes.gguf")
    assert answer.code == 2
    assert "curl -L -O -C - 'https://models.example/eyes.gguf'" in answer.err


@pytest.mark.parametrize("command", ["render", "bench"])
def test_what_needs_the_weights_says_how_to_get_them(command: str) -> None:
    answer = qwenops(command, "hf:maker/eyes:Q4_K_M")
    assert answer.code == 2
    assert f"{command} needs the file itself, and hf:maker/eyes:Q4_K_M is not here" in answer.err
    assert 'hf download maker/eyes --include "*Q4_K_M*.gguf" "*mmproj*.gguf" --local-dir .' in answer.err


def test_a_named_projector_must_be_here_too() -> None:
    must_be_here((Path("m.gguf"), None), "up")
    with pytest.raises(BadInput, match="up needs the file itself"):
        must_be_here((Path("m.gguf"), "hf:maker/eyes:mmproj-F16.gguf"), "up")
    with pytest.raises(BadInput, match=r"the model is here and hf:a/b:mmproj-F16\.gguf is not"):
        variants((Path("m.gguf"),), "hf:a/b:mmproj-F16.gguf")


def test_one_model_is_wanted_where_there_are_several(tmp_path: Path) -> None:
    for quant in ("Q4_K_M", "Q8_0"):
        write_text(tmp_path / f"Eyes-{quant}.gguf", TEXT["qwen3-0.6b"], quant)
    answer = qwenops("need", tmp_path, *CARD)
    assert answer.code == 2
    assert "holds 2 models: Q8_0, Q4_K_M" in answer.err
    told = answer.err.splitlines()[1].split()
    assert told[:2] == ["qwenops", "need"]
    assert qwenops(*told[1:], *CARD).code == 0
    models = variants((tmp_path,), None)
    assert only_one(tmp_path, models[:1]) is models[0]


def test_a_repository_of_several_is_refused_before_a_header_is_read(hub: Web) -> None:
    answer = qwenops("need", "hf:maker/eyes", *CARD)
    assert answer.code == 2
    assert "hf:maker/eyes holds 2 models: Q4_K_M, Q8_0\n  name one of them: hf:maker/eyes:Q4_K_M" in answer.err
    assert len(hub.requests) == 1


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("unsloth/Qwen3-VL-8B-Instruct-GGUF:Q4_K_M", "hf:unsloth/Qwen3-VL-8B-Instruct-GGUF:Q4_K_M"),
        ("no-such-folder/deeper/still/model.gguf", "ls -l ."),
        ("no-such-model.gguf", "ls -l ."),
    ],
)
def test_a_path_that_is_not_there_is_answered_with_sense(typed: str, hint: str) -> None:
    answer = qwenops("need", typed)
    assert answer.code == 2
    assert "no such file" in answer.err
    assert answer.err.splitlines()[1].strip().startswith(hint)


@pytest.mark.server
@pytest.mark.vulkan
def test_the_runtime_is_asked_about_a_model_that_is_not_here(
    tiny_qwen3vl: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = software_runtime()
    settings = LoadSettings(num_ctx=2048)
    here = read_model(tiny_qwen3vl.model)
    assert here.projector
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with serving() as web, serving("127.0.0.2") as cdn:
        monkeypatch.setenv("HF_ENDPOINT", web.url)
        web.repository("maker/tiny", {p.name: p for p in (here.path, here.projector.path)}, cdn)
        (there,) = variants(("hf:maker/tiny",), None)
    assert sum(p.stat().st_size for p in there.shards) < here.file_bytes / 2
    of_header = probe(there, settings, runtime)
    monkeypatch.setenv("QWENOPS_HOME", tempfile.mkdtemp())
    of_file = probe(here, settings, runtime)
    assert of_header.rung == of_file.rung == "runtime"
    # what is free differs from one moment to the next
    assert [replace(d, free_bytes=0) for d in of_header.devices] == [replace(d, free_bytes=0) for d in of_file.devices]
    assert of_header.host == of_file.host


@pytest.fixture
def named_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A hub with both repositories that the catalogue has for qwen3-vl:8b, one quant of which both have."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for quant in ("Q4_K_M", "Q8_0", "IQ4_XS"):
        write_text(shelf / f"{quant}.gguf", TEXT["qwen3-vl-8b"], quant)
    write_vision(shelf / "mmproj-F16.gguf", VISION["qwen3-vl-8b"])
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("QWENOPS_HOME", str(tmp_path / "own"))
    with serving() as web, serving("127.0.0.2") as cdn:
        monkeypatch.setenv("HF_ENDPOINT", web.url)
        for owner, stem, quants in (
            ("Qwen", "Qwen3VL", ("Q4_K_M", "Q8_0")),
            ("unsloth", "Qwen3-VL", ("Q4_K_M", "IQ4_XS")),
        ):
            files = {f"{stem}-8B-Instruct-{quant}.gguf": shelf / f"{quant}.gguf" for quant in quants}
            web.repository(
                f"{owner}/Qwen3-VL-8B-Instruct-GGUF", {**files, "mmproj-F16.gguf": shelf / "mmproj-F16.gguf"}, cdn
            )
        yield web


def test_a_name_stands_for_every_quant_of_its_repositories(named_hub: Web) -> None:
    found = {m.quant: m.source for m in variants((Path("qwen3-vl:8b"),), None)}
    assert found == {
        "Q8_0": "hf:Qwen/Qwen3-VL-8B-Instruct-GGUF:Qwen3VL-8B-Instruct-Q8_0.gguf",
        "Q4_K_M": "hf:Qwen/Qwen3-VL-8B-Instruct-GGUF:Qwen3VL-8B-Instruct-Q4_K_M.gguf",
        "IQ4_XS": "hf:unsloth/Qwen3-VL-8B-Instruct-GGUF:Qwen3-VL-8B-Instruct-IQ4_XS.gguf",
    }


def test_a_name_with_a_quant_is_that_quant_wherever_it_is(named_hub: Web) -> None:
    (model,) = variants((Path("qwen3-vl:8b-instruct-iq4_xs"),), None)
    assert model.quant == "IQ4_XS"
    assert model.projector is not None


def test_a_repository_that_is_gone_leaves_the_other(named_hub: Web) -> None:
    del named_hub.pages["/api/models/Qwen/Qwen3-VL-8B-Instruct-GGUF"]
    assert [m.quant for m in variants((Path("qwen3-vl:8b"),), None)] == ["Q4_K_M", "IQ4_XS"]


def test_a_name_of_which_every_repository_is_gone_says_what_stood_in_the_way(named_hub: Web) -> None:
    named_hub.pages.clear()
    with pytest.raises(QwenopsError, match="Qwen/Qwen3-VL-8B-Instruct-GGUF"):
        variants((Path("qwen3-vl:8b"),), None)


def test_plan_takes_a_name(named_hub: Web) -> None:
    answer = qwenops("plan", "qwen3-vl:8b", "--for", "ocr", *CARD, "--json")
    assert answer.code == 0, answer.err
    assert answer.data["choice"]["file"].startswith("hf:")


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that nothing listens for."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@pytest.mark.parametrize("flags", [(), ("--offline",)])
def test_out_of_reach_of_the_hub_a_name_is_planned_by_its_dimensions(no_hub: None, flags: tuple[str, ...]) -> None:
    answer = qwenops("plan", "qwen3-vl:8b", "--for", "ocr", *CARD, "--json", *flags)
    assert answer.code == 0, answer.err
    assert answer.data["choice"]["quant"] == "Q6_K"
    assert answer.data["choice"]["file"].startswith("qwen3-vl:8b (by its published dimensions)")
    assert any("out of reach" in note for note in answer.data["notes"])


def test_its_need_by_dimensions_is_that_of_a_file_of_those_dimensions(no_hub: None, tmp_path: Path) -> None:
    write_text(tmp_path / "Eyes-Q8_0.gguf", TEXT["qwen3-vl-8b"], "Q8_0")
    drawn = qwenops("need", "qwen3-vl:8b-instruct-q8_0", *CARD, "--json").data
    written = qwenops("need", str(tmp_path / "Eyes-Q8_0.gguf"), *CARD, "--json").data
    for part in ("weights_bytes", "kv_bytes", "state_bytes", "compute_bytes"):
        assert drawn["devices"][0][part] == written["devices"][0][part], part
        assert drawn["host"].get(part) == written["host"].get(part), part


def test_nobody_but_the_formula_can_be_asked_about_dimensions(no_hub: None) -> None:
    answer = qwenops("need", "qwen3-vl:8b-instruct-q8_0", "--rung", "runtime")
    assert answer.code == 3
    assert "no header" in answer.err


@pytest.mark.parametrize("command", [("up",), ("bench", "speed")])
def test_what_needs_the_files_does_not_make_do_with_dimensions(no_hub: None, command: tuple[str, ...]) -> None:
    answer = qwenops(*command, "qwen3-vl:8b")
    assert answer.code == 3
    assert "cannot be reached" in answer.err


def test_a_hub_that_answers_no_is_believed(named_hub: Web) -> None:
    named_hub.pages.clear()
    assert qwenops("plan", "qwen3-vl:8b", *CARD).code == 2


def test_a_name_that_nobody_has_gets_the_nearest(named_hub: Web) -> None:
    answer = qwenops("plan", "qwen3-vl:9b", *CARD)
    assert answer.code == 2
    assert "qwenops plan qwen3-vl:8b" in answer.err
    assert not named_hub.requests


def test_a_file_of_the_same_name_comes_before_the_catalogue(
    named_hub: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "qwen3-vl:8b", TEXT["qwen3-0.6b"])
    (model,) = variants((Path("qwen3-vl:8b"),), None)
    assert model.architecture == "qwen3"
