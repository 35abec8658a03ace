"""A real Ollama server of one's own: free port, own store, own home, readable log, stopped with its children."""

from __future__ import annotations

import contextlib
import json
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

from scripts.parts.software_gpu import software_gpu_environment

START_SECONDS = 90
STOP_SECONDS = 20
# Settings of the person's own shell that would change what this server does.
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
    program: Path,
    folder: Path,
    *,
    settings: Mapping[str, str] | None = None,
    store: Path | None = None,
    gpu: Mapping[str, str] | None = None,
) -> OllamaServer:
    """Start this Ollama below `folder` and wait until it answers and has looked for GPUs.

    `settings` are extra environment variables of the server (OLLAMA_KV_CACHE_TYPE, LLAMA_ARG_...); `gpu` the
    variables that choose its devices, by default those of the software GPU. The caller stops it. Raises
    ServerDidNotStart.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = store or folder / "store"
    store.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    env = clean_environment()
    env |= {"OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_MODELS": str(store), "OLLAMA_NO_CLOUD": "1"}
    env |= {"HOME": str(folder), "PATH": f"{program.parent}{os.pathsep}{env.get('PATH', '')}"}
    env |= software_gpu_environment() if gpu is None else gpu
    env |= settings or {}
    log_path = folder / "serve.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [program, "serve"],
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


def answering_version(url: str, *, timeout: float = 5) -> str | None:
    """The version of the Ollama at this address, or None when none answers. Never through a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with (
        contextlib.suppress(urllib.error.URLError, OSError, ValueError),
        opener.open(f"{url}/api/version", timeout=timeout) as answer,
    ):
        return str(json.load(answer).get("version")) or None
    return None


def clean_environment() -> dict[str, str]:
    """This process's environment without what would change a server or lead loopback through a proxy."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(FOREIGN) and name.upper() not in PROXIES
    }


def _wait_until_it_answers(server: OllamaServer) -> None:
    # A server listens before it has looked for GPUs; the line about them is the end of its start.
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise ServerDidNotStart(f"ollama serve ended with {server.process.returncode}: {server.log()[-800:]}")
        if answering_version(server.url) and "inference compute" in server.log():
            return
        time.sleep(0.1)
    raise ServerDidNotStart(f"ollama serve did not answer within {START_SECONDS} s: {server.log()[-800:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _signal_group(leader: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)
