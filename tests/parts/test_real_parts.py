"""The parts themselves: that what the other tests stand on is real, and stands."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts import make_tiny_models
from scripts.parts.layout import TINY_FAMILIES, Layout
from tests.support import tiny
from tests.support.server import OllamaServer, start_ollama

WIDTH, HEIGHT = 96, 64


def _post(server: OllamaServer, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(f"{server.url}{path}", json.dumps(body).encode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=500) as answer:
        return dict(json.load(answer))


def _create(server: OllamaServer, name: str, *files: Path) -> None:
    modelfile = server.store.parent / f"{name}.Modelfile"
    modelfile.write_text("".join(f"FROM {file}\n" for file in files))
    subprocess.run(
        [server.env["PATH"].split(":")[0] + "/ollama", "create", name, "-f", str(modelfile)],
        env=server.env,
        check=True,
        capture_output=True,
        timeout=300,
    )


def _picture() -> str:
    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (200, 30, 30)).save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


@pytest.fixture(scope="module")
def cpu_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OllamaServer]:
    """Without the GPU: what is shown is that the files are right, and a picture takes seconds there."""
    server = start_ollama(tmp_path_factory.mktemp("ollama-cpu"), gpu=False)
    yield server
    server.stop()


@pytest.mark.server
@pytest.mark.vulkan
def test_the_server_sees_the_software_gpu_as_a_discrete_card_of_two_gibibytes(ollama_server: OllamaServer) -> None:
    found = [line for line in ollama_server.log().splitlines() if "inference compute" in line]
    assert len(found) == 1
    assert "llvmpipe" in found[0]
    assert "type=discrete" in found[0]
    assert 'total="2.0 GiB"' in found[0]


@pytest.mark.server
@pytest.mark.vulkan
@pytest.mark.slow
def test_a_real_model_is_created_offloaded_and_answers(ollama_server: OllamaServer, smollm: Path) -> None:
    _create(ollama_server, "parts-smollm", smollm)
    answer = _post(
        ollama_server,
        "/api/generate",
        {
            "model": "parts-smollm",
            "prompt": "Hi",
            "raw": True,
            "stream": False,
            "options": {"num_predict": 4, "num_ctx": 256},
        },
    )
    assert answer["eval_count"] >= 1
    assert "offloaded 31/31 layers to GPU" in ollama_server.log()


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_every_tiny_family_takes_a_picture_through_ollama(cpu_server: OllamaServer, family: str) -> None:
    made = tiny.get(family)
    _create(cpu_server, f"parts-{family}", made.model, made.projector)
    options = {"num_predict": 32, "num_ctx": 2048}
    ask = {"model": f"parts-{family}", "stream": False, "options": options}
    blind = _post(cpu_server, "/api/chat", {**ask, "messages": [{"role": "user", "content": "Hi"}]})
    seeing = _post(
        cpu_server,
        "/api/chat",
        {**ask, "messages": [{"role": "user", "content": "Hi", "images": [_picture()]}]},
    )
    assert seeing["message"]["content"] == blind["message"]["content"] == "A small random model."
    assert seeing["done_reason"] == "stop"
    # --image-min-tokens 1024 is what Ollama asks for where it knows the family by its name.
    grown = seeing["prompt_eval_count"] - blind["prompt_eval_count"]
    assert grown > (1000 if family != "qwen35" else 4)


def test_tiny_models_are_the_same_bytes_each_time(tmp_path: Path, smollm: Path) -> None:
    words = make_tiny_models.read_tokenizer(smollm)

    def digests(folder: Path) -> list[str]:
        paths = make_tiny_models.make("qwen3vl", words, folder)
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]

    assert digests(tmp_path / "one") == digests(tmp_path / "two")


@pytest.mark.server
def test_the_reference_tools_run(parts: Layout, smollm: Path) -> None:
    ran = subprocess.run(
        [parts.reference("llama-bench"), "-m", smollm, "-p", "8", "-n", "2", "-r", "1", "-o", "json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    rows = json.loads(ran.stdout)
    assert [(row["n_prompt"], row["n_gen"]) for row in rows] == [(8, 0), (0, 2)]
    assert all(row["avg_ts"] > 0 for row in rows)
