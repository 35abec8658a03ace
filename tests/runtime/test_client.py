"""The client asks with time limits, passes no proxy for loopback, and says what is wrong."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from qwenops.errors import CheckFailed, ServerDown
from qwenops.runtime.client import Client, ServerRefused
from qwenops.runtime.names import parse_name
from tests.runtime.registered import register
from tests.support.server import OllamaServer
from tests.support.tiny import TinyModel


@contextlib.contextmanager
def silent_socket() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        yield f"127.0.0.1:{server.getsockname()[1]}"


@contextlib.contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """Some web server that is not Ollama: it says the same to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_hung_server_costs_its_limit_and_no_more() -> None:
    with silent_socket() as host:
        began = time.monotonic()
        with pytest.raises(ServerDown, match=r"did not answer within 0\.5 s") as told:
            Client(host).version(timeout_s=0.5)
        assert time.monotonic() - began < 3
        assert any("restart" in line for line in told.value.do)


def test_a_port_where_nobody_listens_says_how_to_start() -> None:
    with pytest.raises(ServerDown, match="No Ollama server listens") as told:
        Client(f"127.0.0.1:{free_port()}").tags()
    assert told.value.do[0] == "ollama serve"
    assert told.value.exit_code == 3


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (404, b"not here"), (200, b"[]"), (302, b""), (500, b'{"detail": "x"}')]
)
def test_what_is_not_ollama_is_called_so(status: int, body: bytes) -> None:
    with answering(status, body) as host, pytest.raises(ServerDown, match="is not Ollama"):
        Client(host).version()


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateways_error_names_the_proxy(status: int) -> None:
    with answering(status, b"<html>bad gateway") as host, pytest.raises(ServerDown, match="proxy"):
        Client(host).version()


def test_the_servers_own_words_are_passed_on() -> None:
    body = json.dumps({"error": "model 'x' not found"}).encode()
    with answering(404, body) as host, pytest.raises(ServerRefused, match="model 'x' not found") as told:
        Client(host).show("x")
    assert (told.value.status, isinstance(told.value, CheckFailed)) == (404, True)


def test_an_unknown_host_name_is_said() -> None:
    with pytest.raises(ServerDown, match=r"not known|cannot be asked"):
        Client("no-such-host.invalid:1").version(timeout_s=5)


def test_loopback_is_never_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = f"http://127.0.0.1:{free_port()}"
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with answering(200, b'{"version": "1.2.3"}') as host:
        assert Client(host).version() == "1.2.3"


def test_another_host_is_asked_through_the_users_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with answering(200, b'{"version": "from the proxy"}') as host:
        monkeypatch.setenv("http_proxy", f"http://{host}")
        assert Client("ollama.example:11434").version() == "from the proxy"


@pytest.mark.server
@pytest.mark.slow
def test_a_real_server_is_asked_everything(ollama_server: OllamaServer, smollm: Path) -> None:
    client = Client(ollama_server.url)
    assert client.version() == "0.32.14"
    register(ollama_server.store, "client-test", smollm)
    assert "client-test:latest" in [t.name for t in client.tags()]
    shown = client.show("client-test")
    assert shown["model_info"]["general.architecture"] == "llama"
    options = {"num_ctx": 256, "num_predict": 4, "temperature": 0, "num_gpu": 0}
    loaded = client.load("client-test", options=options)
    assert loaded.text == ""
    (running,) = [m for m in client.ps() if m.name == "client-test:latest"]
    assert running.context_length == 256
    # With num_gpu 0 a device still holds a compute buffer for large batches.
    assert running.size_vram_bytes < 50_000_000 < running.size_bytes
    at_once = client.generate("client-test", "Once upon", options=options)
    pieces: list[str] = []
    streamed = client.generate("client-test", "Once upon", options=options, on_text=pieces.append)
    assert at_once.text == streamed.text == "".join(pieces) != ""
    assert (at_once.tokens, streamed.tokens) == (4, 4)
    assert at_once.generate_s > 0
    chatted = client.chat("client-test", [{"role": "user", "content": "Hi"}], options=options)
    assert chatted.tokens <= 4
    assert chatted.prompt_tokens > 5
    client.unload("client-test")
    assert "client-test:latest" not in [m.name for m in client.ps()]
    client.delete("client-test")
    assert "client-test:latest" not in [t.name for t in client.tags()]
    with pytest.raises(ServerRefused, match="not found") as told:
        client.generate("client-test", "x")
    assert told.value.status == 404
    assert not client.has_blob("sha256:" + "0" * 64)
    with pytest.raises(ServerRefused):
        client.create("-bad", from_="nothing")


@pytest.mark.server
@pytest.mark.slow
def test_a_picture_reaches_the_model(ollama_server: OllamaServer, tiny_qwen3vl: TinyModel, tmp_path: Path) -> None:
    from PIL import Image

    picture = tmp_path / "p.png"
    Image.new("RGB", (64, 64), "white").save(picture)
    register(ollama_server.store, "client-sight", tiny_qwen3vl.model, projector=tiny_qwen3vl.projector)
    client = Client(ollama_server.url)
    options = {"num_ctx": 2048, "num_gpu": 0}
    # Ollama then says what it would hand to the model, pictures counted, and does not look at them.
    say_only: dict[str, Any] = {"_debug_render_only": True}
    blind = client.generate("client-sight", "What?", options=options, **say_only)
    seeing = client.generate(
        "client-sight", "What?", images=[picture, picture.read_bytes()], options=options, **say_only
    )
    assert [g.raw["_debug_info"].get("image_count", 0) for g in (blind, seeing)] == [0, 2]
    client.unload("client-sight")
    client.delete("client-sight")
    assert parse_name("client-sight").short not in [t.name for t in client.tags()]
