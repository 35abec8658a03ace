"""A real Ollama server of the test run's own: free port, own store, own home, readable log."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.parts import layout, software_gpu_environment

START_SECONDS = 60
STOP_SECONDS = 20
# Settings of the person's own shell that would change what a server does.
FOREIGN = ("OLLAMA_", "LLAMA_ARG_", "GGML_", "VK_", "CUDA_VISIBLE", "HIP_VISIBLE")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class ServerDidNotStart(AssertionError):
    """The server ended or stayed silent; the message carries the end of its log."""


@dataclass
class OllamaServer:
    """A running server. `env` is what a client in another process needs to reach it and its store."""

    url: str
    store: Path
    log_path: Path
    process: subprocess.Popen[bytes]
    env: dict[str, str]

    @property
    def pid(self) -> int:
        """The server's process id; its llama-server children are below it."""
        return self.process.pid

    @property
    def host(self) -> str:
        """Address and port, as OLLAMA_HOST has it."""
        return self.url.removeprefix("http://")

    def log(self) -> str:
        """All that the server and its llama-server children have written so far."""
        return self.log_path.read_text("utf-8", "replace")

    def stop(self) -> None:
        """End the server and every child it started."""
        if self.process.poll() is None:
            _signal_group(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                _signal_group(self.process.pid, signal.SIGKILL)
                self.process.wait(STOP_SECONDS)
        _signal_group(self.process.pid, signal.SIGKILL)


def start_ollama(
    folder: Path, *, settings: Mapping[str, str] | None = None, store: Path | None = None, gpu: bool = True
) -> OllamaServer:
    """Start the pinned Ollama below `folder` and wait until it answers.

    `settings` are extra environment variables of the server (OLLAMA_KV_CACHE_TYPE, LLAMA_ARG_...);
    `gpu=False` hides the software GPU. The caller stops it. Raises ServerDidNotStart.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = store or folder / "store"
    store.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    env = _clean_environment()
    env |= {"OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_MODELS": str(store), "OLLAMA_NO_CLOUD": "1"}
    env |= {"HOME": str(folder), "PATH": f"{layout().ollama.parent}{os.pathsep}{env.get('PATH', '')}"}
    env |= software_gpu_environment() if gpu else {"OLLAMA_VULKAN": "0", "GGML_VK_VISIBLE_DEVICES": "-1"}
    env |= settings or {}
    log_path = folder / "serve.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [layout().ollama, "serve"],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = OllamaServer(f"http://127.0.0.1:{port}", store, log_path, process, env)
    try:
        _wait_until_it_answers(server)
    except BaseException:
        server.stop()
        raise
    return server


def _wait_until_it_answers(server: OllamaServer) -> None:
    # A server listens before it has looked for GPUs; the line about them is the end of its start.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise ServerDidNotStart(f"ollama serve ended with {server.process.returncode}: {server.log()[-800:]}")
        try:
            with opener.open(f"{server.url}/api/version", timeout=5):
                if "inference compute" in server.log():
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.1)
    raise ServerDidNotStart(f"ollama serve did not answer within {START_SECONDS} s: {server.log()[-800:]}")


def _clean_environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(FOREIGN) and name.upper() not in PROXIES
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _signal_group(leader: int, number: signal.Signals) -> None:
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return
