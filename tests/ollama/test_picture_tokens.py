"""A picture takes the tokens that were counted beforehand, through the real Ollama."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from qwenops.ollama.register import register
from qwenops.ollama.types import Spec
from qwenops.runtime.client import Client
from tests.ollama.support import runtime_of
from tests.support.cli import qwenops
from tests.support.tiny import TinyModel

pytestmark = [pytest.mark.server, pytest.mark.slow]

SIZES = [(28, 28), (640, 480), (425, 550), (1000, 200), (1100, 1100), (1275, 1000)]


def png(path: Path, width: int, height: int) -> Path:
    Image.effect_noise((width, height), 64).convert("RGB").save(path)
    return path


def prompt_tokens(client: Client, name: str, picture: Path | None) -> int:
    message: dict[str, Any] = {"role": "user", "content": "What is this?"}
    if picture is not None:
        message["images"] = [picture.read_bytes()]
    options = {"temperature": 0, "seed": 1, "num_predict": 1}
    return client.chat(name, [message], options=options, think=False if name == "qwen35" else None).prompt_tokens


@pytest.mark.parametrize("family", ["qwen3vl", "qwen25vl", "qwen35"])
def test_a_prompt_grows_by_what_image_tokens_says(
    request: pytest.FixtureRequest, start_server: Any, tmp_path: Path, family: str
) -> None:
    tiny: TinyModel = request.getfixturevalue(f"tiny_{family}")
    server = start_server(gpu=False)
    spec = Spec(shards=(tiny.model,), projectors=(tiny.projector,), parameters={"num_ctx": 8192})
    register(spec, family, runtime_of(server))
    client = Client(server.url)
    pictures = [png(tmp_path / f"{w}x{h}.png", w, h) for w, h in SIZES]
    counted = qwenops("image-tokens", *pictures, "--model", tiny.model, "--json").data
    without = prompt_tokens(client, family, None)
    grown = [prompt_tokens(client, family, p) - without for p in pictures]
    assert grown == [row["tokens"] + 2 for row in counted]


def test_webp_is_taken_and_a_turned_photograph_is_counted_as_stored(
    start_server: Any, tiny_qwen35: TinyModel, tmp_path: Path
) -> None:
    server = start_server(gpu=False)
    spec = Spec(shards=(tiny_qwen35.model,), projectors=(tiny_qwen35.projector,), parameters={"num_ctx": 4096})
    register(spec, "qwen35", runtime_of(server))
    image = Image.new("RGB", (640, 320), "white")
    image.save(tmp_path / "a.webp", lossless=True)
    exif = image.getexif()
    exif[0x0112] = 6
    turned = io.BytesIO()
    image.save(turned, "JPEG", exif=exif)
    (tmp_path / "a.jpg").write_bytes(turned.getvalue())
    client = Client(server.url)
    pictures = [tmp_path / "a.webp", tmp_path / "a.jpg"]
    counted = [row["tokens"] + 2 for row in qwenops("image-tokens", *pictures, "--family", "qwen3.5", "--json").data]
    without = prompt_tokens(client, "qwen35", None)
    assert [prompt_tokens(client, "qwen35", p) - without for p in pictures] == counted == [202, 202]
