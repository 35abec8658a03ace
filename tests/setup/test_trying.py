"""qwenops try on a real Ollama: pages to models, side by side; what cannot be shown fails alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from qwenops.errors import BadInput
from qwenops.ollama.register import register
from qwenops.ollama.types import Spec
from qwenops.setup.trying import split_given
from tests.ollama.support import runtime_of
from tests.support.cli import qwenops
from tests.support.server import OllamaServer
from tests.support.tiny import TinyModel


def page(path: Path) -> Path:
    image = Image.new("RGB", (320, 160), "white")
    ImageDraw.Draw(image).text((20, 20), "MOKALU 314", fill="black")
    image.save(path)
    return path


@pytest.mark.parametrize(
    ("given", "files", "prompt"),
    [
        (("a.png",), ["a.png"], None),
        (("a.png", "Read it."), ["a.png"], "Read it."),
        (("a.png", "b.png"), ["a.png", "b.png"], None),
        ((".", "what is " + "x" * 5000), ["."], "what is " + "x" * 5000),
    ],
)
def test_the_last_thing_given_is_the_prompt_where_it_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], files: list[str], prompt: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        page(tmp_path / name)
    assert split_given(given) == ([Path(f) for f in files], prompt)


@pytest.mark.parametrize("given", [("none.png",), ("a.png", "none.png"), ("Read it.",)])
def test_a_picture_that_is_not_there_is_no_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    page(tmp_path / "a.png")
    with pytest.raises(BadInput, match="no such file"):
        split_given(given)


@pytest.mark.server
@pytest.mark.slow
def test_pages_and_models_side_by_side(
    start_server: Callable[..., OllamaServer], tiny_qwen35: TinyModel, tmp_path: Path
) -> None:
    server = start_server(gpu=False)
    spec = Spec(shards=(tiny_qwen35.model,), projectors=(tiny_qwen35.projector,), parameters={"num_ctx": 2048})
    for name in ("one", "two"):
        register(spec, name, runtime_of(server))
    folder = tmp_path / "pages"
    folder.mkdir()
    Image.open(page(folder / "1.png")).save(folder / "2.pdf")
    (folder / "notes.txt").write_text("not a page")
    env: Mapping[str, str] = {
        "OLLAMA_HOST": server.url,
        "OLLAMA_MODELS": str(server.store),
        "QWENOPS_HOME": str(tmp_path / "home"),
    }
    args = ("try", "one,two", folder, "Read it.", "--num-predict", 8, "--no-think")
    answer = qwenops(*args, "--json", env=env)
    assert answer.code in (0, 1), answer.err
    runs = answer.data["runs"]
    assert [(r["name"], Path(r["file"]).name, r["page"]) for r in runs] == [
        ("one", "1.png", None),
        ("one", "2.pdf", 1),
        ("two", "1.png", None),
        ("two", "2.pdf", 1),
    ]
    assert all(r["prompt"] == "Read it." and r["error"] is None for r in runs)
    # a model of random weights writes until it is stopped: that is no success
    assert answer.code == (0 if all(r["ok"] for r in runs) else 1)
    assert all(not r["ok"] for r in runs if r["cut"])
    (folder / "bad.png").write_text("hello")
    shown = qwenops(*args, env=env)
    assert shown.code == 1
    assert "bad.png is not a picture" in shown.err
    assert "1.png" in shown.out


@pytest.mark.server
@pytest.mark.slow
def test_a_model_that_is_not_there_fails_by_name(start_server: Callable[..., OllamaServer], tmp_path: Path) -> None:
    server = start_server(gpu=False)
    answer = qwenops(
        "try", "nobody", page(tmp_path / "a.png"), env={"OLLAMA_HOST": server.url, "QWENOPS_HOME": str(tmp_path / "h")}
    )
    assert answer.code == 1
    assert "nobody" in answer.out
