"""The life of a model on a real server: listed with its plan, found stale, planned again, compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from qwenops import history
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
