"""The real `ollama create` takes what we render, and the server then says back what was meant."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from qwenops.model.read import read_model
from qwenops.modelfile.context import context_for
from qwenops.modelfile.families import system_of
from qwenops.modelfile.grammar import parse
from qwenops.modelfile.render import render
from qwenops.modelfile.spec import spec_of
from qwenops.plan.profile import profiles
from scripts.parts.layout import Layout
from tests.support.server import OllamaServer
from tests.support.tiny import TinyModel

SYSTEM = ' Say "yes"\nor """no""", \\n is no line end,\t漢字 😀 and # no comment.\n'
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def create(server: OllamaServer, parts: Layout, name: str, text: str, folder: Path) -> None:
    path = folder / "Modelfile"
    path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [parts.ollama, "create", name, "-f", path], env=server.env, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr


def post(server: OllamaServer, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(server.url + path, json.dumps(body).encode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=240) as answer:
        said: dict[str, Any] = json.load(answer)
    return said


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("task", profiles())
@pytest.mark.parametrize("family", ["qwen3vl", "qwen35", "qwen25vl"])
def test_ollama_create_takes_every_task_and_says_it_back(
    family: str, task: str, request: pytest.FixtureRequest, ollama_server: OllamaServer, parts: Layout, tmp_path: Path
) -> None:
    tiny: TinyModel = request.getfixturevalue(f"tiny_{family}")
    model = read_model(tiny.model, tiny.projector)
    about = profiles()[task]
    context = context_for(
        model,
        task,
        num_ctx=12288,
        num_gpu=5,
        num_batch=256,
        images=about.images,
        image_tokens=about.image_tokens,
        mode=about.mode,
        system=SYSTEM,
    )
    text = render(task, context)
    name = f"modelfile-{family}-{task}"
    create(ollama_server, parts, name, text, tmp_path)
    wanted = spec_of(parse(text), tmp_path)
    shown = post(ollama_server, "/api/show", {"model": name})
    assert shown["system"] == SYSTEM
    assert "vision" in shown["capabilities"]
    assert shown.get("requires") == wanted.requires
    # `show` writes a Modelfile of its own; our parser reads it, and the parameters in it are ours.
    said = parse(shown["modelfile"])
    assert {c.name: float(c.args) for c in said.commands if c.name in wanted.parameters} == pytest.approx(
        wanted.parameters
    )
    assert [c.args for c in said.all("renderer")] == ([wanted.renderer] if wanted.renderer else [])
    assert [c.args for c in said.all("parser")] == ([wanted.parser] if wanted.parser else [])
    assert len(said.all("model")) == 2


@pytest.mark.server
@pytest.mark.slow
def test_the_makers_own_system_message_is_said_back(
    tiny_qwen25vl: TinyModel, ollama_server: OllamaServer, parts: Layout, tmp_path: Path
) -> None:
    model = read_model(tiny_qwen25vl.model, tiny_qwen25vl.projector)
    create(ollama_server, parts, "own-words", render("html", context_for(model, "html", num_ctx=16896)), tmp_path)
    said = post(ollama_server, "/api/show", {"model": "own-words"})["system"]
    assert said == system_of("qwen2.5-vl", "html")
    assert "QwenVL Document Parser HTML" in said


@pytest.mark.server
@pytest.mark.slow
def test_the_renderer_puts_images_before_the_text(
    tiny_qwen3vl: TinyModel, ollama_server: OllamaServer, parts: Layout, tmp_path: Path
) -> None:
    model = read_model(tiny_qwen3vl.model, tiny_qwen3vl.projector)
    create(
        ollama_server, parts, "images-first", render("compare", context_for(model, "compare", num_ctx=12288)), tmp_path
    )
    turn = {"role": "user", "content": "what is this", "images": [PIXEL, PIXEL]}
    body = {"model": "images-first", "messages": [turn], "stream": False, "_debug_render_only": True}
    prompt = post(ollama_server, "/api/chat", body)["_debug_info"]["rendered_template"]
    assert "<|im_start|>user\n[img-0][img-1] what is this<|im_end|>" in prompt
