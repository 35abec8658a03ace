"""The life of a model on a real server: listed with its plan, found stale, planned again, compared."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from qwenops import history
from scripts.parts.layout import Layout
from tests.support.cli import qwenops
from tests.support.server import OllamaServer
from tests.support.tiny import TinyModel

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture
def env(tmp_path: Path, start_server: Callable[..., OllamaServer]) -> Mapping[str, str]:
    server = start_server(gpu=False)
    return {"OLLAMA_HOST": server.url, "OLLAMA_MODELS": str(server.store), "QWENOPS_HOME": str(tmp_path / "home")}


def up(env: Mapping[str, str], tiny: TinyModel, name: str, *more: object) -> None:
    done = qwenops("up", tiny.model, "--mmproj", tiny.projector, "--ctx", 4096, "--name", name, *more, env=env)
    assert done.code == 0, done.err


def created_by_ollama(env: Mapping[str, str], tiny: TinyModel, name: str, parts: Layout, folder: Path) -> None:
    """A model that qwenops did not make."""
    modelfile = folder / "Modelfile"
    modelfile.write_text(f"FROM {tiny.model}\nFROM {tiny.projector}\n")
    command = [parts.ollama, "create", name, "-f", modelfile]
    made = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr


def as_made_long_ago(env: Mapping[str, str], name: str) -> None:
    """Rewrite what is kept of a model as if an older Ollama had been there."""
    with history.open(Path(env["QWENOPS_HOME"]) / "data" / "history.sqlite3") as kept:
        (row,) = kept.recipes(name)
        kept.record_recipe(row.name, row.place, {**row.recipe, "ollama": "0.30.0"})


def test_list_and_show_say_what_was_planned_and_what_is_stale(env: Mapping[str, str], tiny_qwen3vl: TinyModel) -> None:
    up(env, tiny_qwen3vl, "eyes", "--images", 1, "--for", "ocr")
    up(env, tiny_qwen3vl, "twin", "--images", 1, "--no-load")
    listed = qwenops("list", "--json", env=env)
    assert listed.code == 0, listed.err
    first, second = listed.data["models"]
    assert (first["name"], first["plan"]["task"], first["plan"]["choice"]["num_ctx"]) == ("eyes:latest", "ocr", 4096)
    assert first["plan"]["predicted_bytes"] > 0
    assert first["plan"]["measured_bytes"] > 0
    assert second["plan"]["task"] == "chat"
    size = tiny_qwen3vl.model.stat().st_size + tiny_qwen3vl.projector.stat().st_size
    assert listed.data["disk_bytes"] == size, "two names, one copy"
    assert listed.data["models"][0]["plan"]["stale"] == []

    as_made_long_ago(env, "eyes:latest")
    old = qwenops("list", env=env)
    assert old.code == 0
    assert "eyes:latest: made under Ollama 0.30.0, now 0.32.14" in old.out
    assert "qwenops update eyes:latest" in old.err
    shown = qwenops("show", "eyes", env=env)
    assert "--for ocr" in shown.out
    assert "made under Ollama 0.30.0" in shown.out

    assert qwenops("remove", "eyes", env=env).code == 0
    with history.open(Path(env["QWENOPS_HOME"]) / "data" / "history.sqlite3") as kept:
        assert [row.name for row in kept.recipes()] == ["twin:latest"]


def test_update_says_what_would_change_asks_and_does_it(env: Mapping[str, str], tiny_qwen3vl: TinyModel) -> None:
    up(env, tiny_qwen3vl, "eyes", "--images", 1)
    nothing = qwenops("update", env=env)
    assert nothing.code == 0, nothing.err
    assert "eyes:latest  is as it would be planned now" in nothing.out

    as_made_long_ago(env, "eyes:latest")
    look = qwenops("update", "--dry-run", "--json", env=env)
    (model,) = look.data["models"]
    assert model["stale"] == ["made under Ollama 0.30.0, now 0.32.14"]
    assert (model["needed"], model["done"]) == (True, None)
    unasked = qwenops("update", "eyes", env=env)
    assert unasked.code == 2
    assert "--yes" in unasked.err

    other = qwenops("update", "eyes", "--for", "analysis", "--yes", "--json", env=env)
    assert other.code == 0, other.err
    (model,) = other.data["models"]
    assert {"what": "task", "before": "chat", "after": "analysis"} in model["changes"]
    assert model["done"]["ok"]
    listed = qwenops("list", "--json", env=env).data["models"]
    assert [(m["plan"]["task"], m["plan"]["stale"]) for m in listed] == [("analysis", [])]
    shown = qwenops("show", "eyes", "--json", env=env).data
    assert shown["parameters"]["num_predict"] > 0, "the task ends its answers"
    assert qwenops("update", "eyes", "--json", env=env).data["models"][0]["needed"] is False


def test_what_an_update_replaced_comes_back_by_the_command_it_names(
    env: Mapping[str, str], tiny_qwen3vl: TinyModel
) -> None:
    up(env, tiny_qwen3vl, "eyes", "--images", 1, "--no-load")
    before = qwenops("show", "eyes", "--json", env=env).data["parameters"]
    done = qwenops("update", "eyes", "--for", "ocr", "--yes", "--no-load", "--json", env=env)
    undo = done.data["models"][0]["done"]["undo"]
    assert qwenops("show", "eyes", "--json", env=env).data["parameters"] != before
    back = qwenops(*shlex.split(undo)[1:], env=env)
    assert back.code == 0, back.err
    assert qwenops("show", "eyes", "--json", env=env).data["parameters"] == before


def test_a_model_of_another_tool_is_planned_on_its_own_files(
    env: Mapping[str, str], tiny_qwen3vl: TinyModel, tmp_path: Path, parts: Layout
) -> None:
    created_by_ollama(env, tiny_qwen3vl, "foreign", parts, tmp_path)
    unknown = qwenops("update", "foreign", env=env)
    assert unknown.code == 2
    assert "qwenops update foreign:latest --for ocr" in unknown.err
    blobs = sorted(p.name for p in (Path(env["OLLAMA_MODELS"]) / "blobs").iterdir() if p.stat().st_size > 2**20)
    done = qwenops("update", "foreign", "--for", "ocr", "--yes", "--no-load", "--json", env=env)
    assert done.code == 0, done.err
    parameters = qwenops("show", "foreign", "--json", env=env).data["parameters"]
    assert parameters["num_ctx"] > 4098, "room for a picture of full size"
    after = sorted(p.name for p in (Path(env["OLLAMA_MODELS"]) / "blobs").iterdir() if p.stat().st_size > 2**20)
    assert after == blobs, "on the files that were there"
    assert qwenops("list", "--json", env=env).data["models"][0]["plan"]["task"] == "ocr"


def test_an_update_of_what_is_not_there_names_what_is(env: Mapping[str, str], tiny_qwen3vl: TinyModel) -> None:
    assert qwenops("update", env=env).code == 2
    up(env, tiny_qwen3vl, "eyes", "--no-load")
    wrong = qwenops("update", "eyse", "--for", "ocr", env=env)
    assert wrong.code == 2
    assert "There is no model eyse:latest" in wrong.err


def test_a_model_whose_file_is_gone_keeps_what_it_has(
    env: Mapping[str, str], tiny_qwen3vl: TinyModel, tmp_path: Path
) -> None:
    own = tmp_path / "own.gguf"
    shutil.copy(tiny_qwen3vl.model, own)
    assert qwenops("up", own, "--ctx", 4096, "--name", "lost", "--no-load", env=env).code == 0
    own.unlink()
    before = qwenops("show", "lost", "--json", env=env).data["parameters"]
    answer = qwenops("update", "lost", "--for", "ocr", "--yes", "--json", env=env)
    assert answer.code != 0
    assert str(own) in answer.data["models"][0]["fault"]
    assert qwenops("show", "lost", "--json", env=env).data["parameters"] == before


def test_diff_says_what_two_models_differ_in(env: Mapping[str, str], tiny_qwen3vl: TinyModel) -> None:
    up(env, tiny_qwen3vl, "one", "--no-load")
    up(env, tiny_qwen3vl, "two", "--no-load")
    same = qwenops("diff", "one", "two", env=env)
    assert same.code == 0, same.err
    assert "are the same but for their names" in same.out
    longer = ("--ctx", 8192, "--name", "three", "--no-load", "--system", "Be brief.")
    done = qwenops("up", tiny_qwen3vl.model, *longer, env=env)
    assert done.code == 0, done.err
    answer = qwenops("diff", "one", "three", "--json", env=env)
    assert answer.code == 1
    rows = {r["what"]: r for r in answer.data["rows"]}
    assert (rows["num_ctx"]["first"], rows["num_ctx"]["second"]) == (4096, 8192)
    assert rows["system"]["second"] == "Be brief."
    assert rows["file 1"]["same"]
    assert rows["host kv"]["second"] == 2 * rows["host kv"]["first"]
    assert "num_ctx" in qwenops("diff", "one", "three", env=env).out
    against = qwenops("diff", "one", Path(env["QWENOPS_HOME"]) / "data/modelfiles/three.Modelfile", "--json", env=env)
    assert {r["what"] for r in against.data["rows"] if not r["same"]} >= {"num_ctx", "system"}


def test_the_doctor_names_the_command_that_mends_a_small_context_and_a_stale_plan(
    env: Mapping[str, str], tiny_qwen3vl: TinyModel, tmp_path: Path, parts: Layout
) -> None:
    created_by_ollama(env, tiny_qwen3vl, "foreign", parts, tmp_path)
    up(env, tiny_qwen3vl, "eyes", "--ctx", 8192, "--no-load")
    as_made_long_ago(env, "eyes:latest")
    findings = {f["code"]: f for f in qwenops("doctor", "--json", env=env).data["findings"]}
    assert findings["context-too-small"]["do"] == ["qwenops update foreign:latest --for ocr"]
    assert findings["plan-stale"]["do"] == ["qwenops update eyes:latest"]
    assert findings["plan-stale"]["observed"] == "made under Ollama 0.30.0, now 0.32.14"
    mended = qwenops(*findings["context-too-small"]["do"][0].split()[1:], "--yes", "--no-load", env=env)
    assert mended.code == 0, mended.err
    left = {f["code"] for f in qwenops("doctor", "--json", env=env).data["findings"]}
    assert "context-too-small" not in left
