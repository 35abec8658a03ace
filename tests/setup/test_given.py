"""What was typed for a model: files here, references elsewhere, and what refuses the latter."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qwenops.cli.common import REFERENCES
from qwenops.errors import BadInput
from qwenops.memory.probe import probe
from qwenops.memory.types import LoadSettings
from qwenops.model.read import read_model
from qwenops.model.reference import SCHEMES
from qwenops.runtime.devices import list_devices
from qwenops.runtime.types import Runtime
from qwenops.setup.given import must_be_here, only_one, variants
from tests.support.cli import qwenops
from tests.support.parts import layout, software_gpu_environment
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


@pytest.mark.parametrize("command", ["up", "render", "bench"])
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
    environment = software_gpu_environment()
    devices, backends, _ = list_devices(layout().llama_server, {**os.environ, **environment})
    runtime = Runtime(
        place="local",
        url="http://127.0.0.1:11434",
        llama_server_path=layout().llama_server,
        devices=devices,
        backends=backends,
        environment=environment,
    )
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
