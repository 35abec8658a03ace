"""The runtime is found on real servers, and a server that hangs or hides costs little and is said so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qwenops.errors import ServerDown
from qwenops.runtime.client import Client
from qwenops.runtime.discover import discover, need_server
from qwenops.runtime.process import find_server, is_serve
from scripts.parts.layout import Layout
from tests.runtime.registered import register
from tests.runtime.test_client import free_port, silent_socket
from tests.support.server import OllamaServer

pytestmark = pytest.mark.usefixtures("no_settings")


def test_where_nothing_listens_the_place_is_none_and_the_cause_is_a_note() -> None:
    runtime = discover(f"127.0.0.1:{free_port()}", probe_devices=False)
    assert (runtime.place, runtime.version, runtime.reachable) == ("none", None, False)
    assert "No Ollama server listens" in runtime.notes[0]
    assert runtime.silence is not None
    assert (runtime.silence.kind, runtime.silence.here) == ("nothing listens", True)
    with pytest.raises(ServerDown, match="No Ollama server listens"):
        need_server(runtime)


def test_a_hung_server_costs_a_few_seconds_and_is_a_note() -> None:
    with silent_socket() as host:
        began = time.monotonic()
        runtime = discover(host, probe_devices=False)
        assert time.monotonic() - began < 6
        assert runtime.place == "none"
        assert "did not answer within 3 s" in runtime.notes[0]
        assert runtime.silence is not None
        assert (runtime.silence.kind, runtime.silence.here) == ("hangs", True)
        with pytest.raises(ServerDown, match="did not answer"):
            need_server(runtime)


@pytest.mark.server
def test_programs_are_found_even_where_no_server_runs(parts: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{parts.ollama.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OLLAMA_KV_CACHE_TYPE", "q8_0")
    monkeypatch.setenv("GGML_VK_VISIBLE_DEVICES", "-1")
    runtime = discover(f"127.0.0.1:{free_port()}")
    assert runtime.place == "none"
    assert runtime.ollama_path == parts.ollama.resolve()
    assert runtime.llama_server_path is not None
    assert runtime.llama_server_build
    assert (runtime.devices, runtime.setting("OLLAMA_CONTEXT_LENGTH")) == ((), "4096")
    assert next(s for s in runtime.settings if s.name == "OLLAMA_KV_CACHE_TYPE").source == "this shell"


@pytest.mark.server
@pytest.mark.vulkan
@pytest.mark.slow
def test_a_running_server_is_known_in_full(
    start_server: Callable[..., OllamaServer], parts: Layout, smollm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"OLLAMA_KV_CACHE_TYPE": "Q8_0", "LLAMA_ARG_FIT_TARGET": "64", "OLLAMA_API_KEY": "secret"}
    server = start_server(settings=settings)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OLLAMA_HOST", server.host)

    empty = discover()
    assert (empty.place, empty.version, empty.pid, empty.notes) == ("local", "0.32.14", server.pid, ())
    assert empty.ollama_path == parts.ollama.resolve()
    assert empty.llama_server_path == parts.llama_server.resolve()
    assert [d.name for d in empty.devices] == ["Vulkan0"]
    assert empty.log_path == server.log_path
    assert empty.environment["LLAMA_ARG_FIT_TARGET"] == "64"
    assert "secret" not in repr(empty)
    sources = {s.name: (s.value, s.source) for s in empty.settings}
    assert sources["OLLAMA_KV_CACHE_TYPE"] == ("Q8_0", f"process {server.pid}")
    assert sources["OLLAMA_NUM_PARALLEL"] == ("1", "default")
    assert sources["OLLAMA_CONTEXT_LENGTH"] == ("4096", "default by VRAM, in the server's log")
    assert empty.store is not None
    assert (empty.store.path, empty.store.writable, empty.store.confirmed) == (server.store, True, True)

    register(server.store, "seen", smollm)
    client = need_server(empty)
    client.load("seen", options={"num_ctx": 512, "num_gpu": 0})
    full = discover(probe_devices=False)
    assert full.store is not None
    assert full.store.confirmed
    (loaded,) = full.loaded
    assert (loaded.name, loaded.context_length) == ("seen:latest", 512)
    assert full.devices == ()
    client.unload("seen")


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mount namespaces are Linux's")
def test_a_server_that_sees_other_files_is_a_container(parts: Layout, tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    own = [unshare or "unshare", "--mount"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
    if unshare is None or subprocess.run([*own, "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine does not let us make a mount namespace")
    port = free_port()
    settings = {"OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_MODELS": str(tmp_path), "HOME": str(tmp_path)}
    settings |= {"OLLAMA_NO_CLOUD": "1", "OLLAMA_KV_CACHE_TYPE": "q4_0", "GGML_VK_VISIBLE_DEVICES": "-1"}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*own, str(parts.ollama), "serve"], env={**os.environ, **settings}, stdout=log, stderr=log
        )
    try:
        wait_for(f"127.0.0.1:{port}")
        runtime = discover(f"127.0.0.1:{port}")
        assert (runtime.place, runtime.version) == ("container", "0.32.14")
        assert (runtime.store, runtime.llama_server_path, runtime.devices) == (None, None, ())
        assert "other files" in runtime.notes[0]
        assert runtime.setting("OLLAMA_KV_CACHE_TYPE") == "q4_0"
    finally:
        server.terminate()
        server.wait(20)


def wait_for(host: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            Client(host).version()
            return
        except ServerDown:
            time.sleep(0.1)
    raise AssertionError(f"nothing answers at {host}")


AS_NOBODY = """
import sys, encodings.idna, stringprep
import psutil, pwd, ipaddress, platform
import qwenops.runtime.discover as d
import qwenops.runtime.server_log, qwenops.runtime.unit, os
os.setgroups([]); os.setgid(65534); os.setuid(65534)
os.environ["HOME"] = "/root"
r = d.discover(sys.argv[1])
print(r.place, r.version, r.environment, r.store.confirmed, r.store.writable, {s.source for s in r.settings})
print(*r.notes, sep="\\n")
"""


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can become another user")
def test_a_server_of_another_user_is_found_and_what_is_hidden_is_said(
    start_server: Callable[..., OllamaServer],
) -> None:
    server = start_server(settings={"OLLAMA_KV_CACHE_TYPE": "q8_0"}, gpu=False)
    done = subprocess.run([sys.executable, "-c", AS_NOBODY, server.url], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, _, notes = done.stdout.partition("\n")
    assert first == "local 0.32.14 {} False False {'default, not proven'}"
    assert "defaults" in notes


@pytest.mark.server
def test_the_listener_is_found_by_its_port(ollama_server: OllamaServer) -> None:
    port = int(ollama_server.host.rsplit(":", 1)[1])
    search = find_server(port)
    assert search.process is not None
    assert (search.process.pid, search.process.listens, search.port_taken) == (ollama_server.pid, True, True)
    assert search.process.same_mounts in (True, None)
    assert find_server(free_port()).process is None


@pytest.mark.parametrize(
    ("command", "serves"),
    [
        (["ollama", "serve"], True),
        (["/usr/local/bin/ollama", "--verbose", "serve"], True),
        (["C:\\Ollama\\ollama.exe", "start"], True),
        (["ollama", "run", "serve"], False),
        (["ollama"], False),
        (["vim", "serve"], False),
        (["/lib/ollama/llama-server", "serve"], False),
    ],
)
def test_a_servers_command_line_is_known(command: list[str], serves: bool) -> None:
    assert is_serve(command) is serves
