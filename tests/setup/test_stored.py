"""A model that Ollama has already: its files are used where they lie, and nothing is asked over a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenops.bench.speed import measure
from qwenops.bench.types import SpeedSettings, SpeedTest
from qwenops.errors import BadInput, CheckFailed
from qwenops.model.stored import find_stored, inherited
from qwenops.ollama.digest import Stamp, remembered
from qwenops.ollama.in_place import look_at_blobs
from qwenops.runtime.store import open_store
from qwenops.setup.answers import make_plan
from qwenops.setup.given import variants
from qwenops.setup.modelfiles import modelfile_text
from tests.ollama.support import as_user, second_user
from tests.support.cli import qwenops
from tests.support.gguf_bytes import write_gguf
from tests.support.server import OllamaServer
from tests.support.shapes import TEXT, VISION, text_metadata, text_tensors, vision_tensors, write_text, write_vision
from tests.support.tiny import TinyModel
from tests.support.web import serving

SMALL = replace(TEXT["qwen3-vl-2b"], layers=2, vocabulary=2000)
EYES = replace(VISION["qwen3-vl-2b"], blocks=2, hidden=256, ffn=512)
DOCKER, OLLAMA = "application/vnd.docker", "application/vnd.ollama.image"
CARD = ("--gpu", "RTX 3060 12GB")


def put(store: Path, kind: str, content: bytes | Path) -> dict[str, Any]:
    """A blob of a store; a file becomes one under another name, as a link."""
    data = content.read_bytes() if isinstance(content, Path) else content
    digest = hashlib.sha256(data).hexdigest()
    (store / "blobs").mkdir(parents=True, exist_ok=True)
    (store / "blobs" / f"sha256-{digest}").write_bytes(data)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}


def add_model(store: Path, name: str, layers: Mapping[str, bytes | Path], **config: str) -> None:
    """A model of a store by the kinds of its layers."""
    rows = [put(store, f"{OLLAMA}.{kind}", content) for kind, content in layers.items()]
    about = put(store, f"{DOCKER}.container.image.v1+json", json.dumps({"model_format": "gguf"} | config).encode())
    path = store / "manifests/registry.ollama.ai/library" / name.replace(":", "/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"schemaVersion": 2, "config": about, "layers": rows}))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with a model and its projector, one with the vision tensors inside, and one of Ollama's cloud."""
    folder = tmp_path / "store"
    monkeypatch.setenv("OLLAMA_MODELS", str(folder))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.setenv("QWENOPS_REGISTRY", "http://127.0.0.1:9")
    model = write_text(tmp_path / "m.gguf", SMALL, "Q8_0")
    projector = write_vision(tmp_path / "p.gguf", EYES)
    params = json.dumps({"num_predict": 77, "num_gpu": 3, "stop": ["x"]}).encode()
    add_model(folder, "eyes:8b", {"model": model, "projector": projector, "params": params, "system": b"be brief"})
    keys = text_metadata(SMALL, "Q8_0") | {"general.name": "Library Eyes Instruct", "qwen3vl.vision.block_count": 2}
    inline = write_gguf(tmp_path / "i.gguf", keys, [*text_tensors(SMALL, "Q8_0"), *vision_tensors(EYES)])
    add_model(folder, "qwen3-vl:8b", {"model": inline}, renderer="qwen3-vl-instruct", parser="qwen3-vl-instruct")
    add_model(folder, "far:cloud", {"license": b"none"})
    return folder


def test_a_model_of_the_store_is_its_blobs_under_its_name_in_ollama(store: Path) -> None:
    (model,) = variants(("ollama:EYES:8b",), None)
    assert model.path.parent == store / "blobs"
    assert model.source == "ollama:eyes:8b"
    assert (model.quant, model.name) == ("Q8_0", "ghost")
    assert model.projector is not None
    assert model.projector.path.parent == store / "blobs"


def test_need_and_plan_of_it_are_those_of_the_files(store: Path, tmp_path: Path) -> None:
    env = {"OLLAMA_MODELS": str(store), "QWENOPS_REGISTRY": "http://127.0.0.1:9"}
    there = qwenops("need", "ollama:eyes:8b", *CARD, "--json", env=env)
    assert there.code == 0, there.err
    here = qwenops("need", tmp_path / "m.gguf", "--mmproj", tmp_path / "p.gguf", *CARD, "--json").data
    data = there.data
    assert "is in your store" in data["notes"][0]
    assert data["model"].pop("file") == "ollama:eyes:8b"
    assert data["model"].pop("projector") == "ollama:eyes:8b (projector)"
    for one in (data, here):
        one.pop("host_available_bytes", None)
        one.pop("notes")
    del here["model"]["file"], here["model"]["projector"]
    assert data == here
    plan = qwenops("plan", "ollama:eyes:8b", "--gpu", "48GiB", "--ctx", 8192, env=env)
    assert "Q8_0 + its projector" in plan.out


def test_a_name_is_the_catalogues_and_else_the_one_in_ollama(store: Path) -> None:
    (model,) = variants((Path("eyes:8b"),), None)
    assert model.stored == "eyes:8b"
    with pytest.raises(BadInput, match="eyes:9b") as error:
        variants((Path("eyes:9b"),), None)
    assert error.value.do[0] == "qwenops plan ollama:eyes:8b"


def test_its_modelfile_is_made_from_its_name_and_undoes_what_the_plan_does_not_want(store: Path) -> None:
    made, _, _ = make_plan(("ollama:eyes:8b",), None, gpu="24GiB", task="chat", ctx=8192)
    text = modelfile_text(made)
    lines = text.splitlines()
    assert "FROM eyes:8b" in lines
    assert {"PARAMETER num_predict -1", "PARAMETER num_gpu -1"} <= set(lines)
    assert str(store) not in text


def test_a_renderer_of_its_own_is_left_alone(store: Path) -> None:
    made, _, _ = make_plan(("ollama:qwen3-vl:8b",), None, gpu="24GiB", task="ocr", ctx=8192)
    text = modelfile_text(made)
    assert "FROM qwen3-vl:8b" in text
    assert "\nRENDERER" not in text


def test_vision_tensors_inside_are_planned_and_refused_to_other_engines(store: Path) -> None:
    (model,) = variants(("ollama:qwen3-vl:8b",), None)
    assert model.inline_vision
    with pytest.raises(BadInput, match="ollama:qwen3-vl:8b carries its vision tensors inside"):
        measure(model, [SpeedTest(16, 0)], SpeedSettings())


def test_what_a_new_model_would_take_over_is_known(store: Path) -> None:
    (model,) = variants(("ollama:eyes:8b",), None)
    assert inherited(model).params["num_predict"] == 77
    assert inherited(model).texts == ("the SYSTEM",)


def test_its_blobs_are_not_read_for_their_digest(store: Path) -> None:
    (model,) = variants(("ollama:eyes:8b",), None)
    look_at_blobs(model)
    assert remembered(Stamp.of(model.path.stat())) == model.path.name.removeprefix("sha256-")


def break_blob(store: Path) -> None:
    blob = max((store / "blobs").iterdir(), key=lambda p: p.stat().st_size)
    blob.write_bytes(blob.read_bytes()[:-1])


def remove_blobs(store: Path) -> None:
    for blob in (store / "blobs").iterdir():
        blob.unlink()


@pytest.mark.parametrize("broken", [break_blob, remove_blobs])
def test_one_whose_files_are_gone_or_cut_off_is_refused(store: Path, broken: Callable[[Path], None]) -> None:
    broken(store)
    with pytest.raises(CheckFailed, match="is not whole"):
        find_stored("qwen3-vl:8b", open_store(store, "test"))


def test_one_without_a_file_says_why(store: Path) -> None:
    with pytest.raises(BadInput, match="cloud"):
        variants(("ollama:far:cloud",), None)


def test_a_projector_that_is_named_makes_it_a_plain_file(store: Path, tmp_path: Path) -> None:
    (model,) = variants(("ollama:eyes:8b",), tmp_path / "p.gguf")
    assert model.stored is None
    assert model.projector is not None
    assert model.projector.path == tmp_path / "p.gguf"


@pytest.mark.server
@pytest.mark.slow
def test_one_that_only_the_server_can_read_is_said_to_be_there(
    start_server: Callable[..., OllamaServer], smollm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server(gpu=False)
    env = {"OLLAMA_HOST": server.url, "QWENOPS_HOME": str(tmp_path / "home")}
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text(f"FROM {smollm}\n")
    assert qwenops("register", "mine", "-f", modelfile, "--no-check", env=env).code == 0
    with second_user() as user, serving() as registry:
        for name, value in (env | {"QWENOPS_REGISTRY": registry.url, "QWENOPS_HOME": "/nowhere"}).items():
            monkeypatch.setenv(name, value)
        said = as_user(user, lambda: variants(("ollama:mine",), None)[0].source)
    assert said.startswith(f"PartMissing: Ollama at {server.url} has mine, and its files cannot be read from here")


@pytest.mark.server
@pytest.mark.slow
def test_up_makes_a_new_name_on_the_same_blobs(
    start_server: Callable[..., OllamaServer], tiny_qwen3vl: TinyModel, tmp_path: Path
) -> None:
    server = start_server(gpu=False)
    env = {"OLLAMA_HOST": server.url, "OLLAMA_MODELS": str(server.store), "QWENOPS_HOME": str(tmp_path / "home")}
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text(f"FROM {tiny_qwen3vl.model}\nFROM {tiny_qwen3vl.projector}\nPARAMETER num_predict 77\n")
    assert qwenops("register", "base", "-f", modelfile, "--no-check", env=env).code == 0
    blobs = {p.name: p.stat().st_ino for p in (server.store / "blobs").iterdir()}
    asked = ("up", "ollama:base", "--ctx", 4096, "--name", "again", "--no-load", "--json")
    answer = qwenops(*asked, env=env)
    assert answer.code == 0, answer.err
    assert answer.data["registered"]["bytes_copied"] == 0

    def weights(name: str) -> list[str]:
        manifest = json.loads((server.store / "manifests/registry.ollama.ai/library" / name / "latest").read_text())
        return [row["digest"] for row in manifest["layers"] if row["size"] > 10000]

    assert weights("again") == weights("base")
    now = {p.name: p.stat() for p in (server.store / "blobs").iterdir()}
    assert {name: now[name].st_ino for name in blobs} == blobs
    assert sum(s.st_size for name, s in now.items() if name not in blobs) < 4096
    shown = qwenops("show", "again", "--json", env=env).data
    assert (shown["parameters"]["num_ctx"], shown["parameters"]["num_predict"]) == (4096, -1)
    assert shown["state"] == "ok"
    twice = qwenops(*asked, env=env)
    assert not twice.data["registered"]["changed"]
