"""Ollama's own llama-server, started for each variant: /completion with its timings, over a socket in a private folder.

Prompts are made token numbers, so that a prompt has exactly as many tokens as its test says and no prefix of it was
seen before. The server counts n generated tokens from the first one on, between which lie n - 1 decodes
(tools/server/server-context.cpp, process_token, b10434).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwenops.bench.engines import EngineName
from qwenops.bench.engines.library import physical_cores
from qwenops.bench.page_cache import forget, read_through
from qwenops.bench.types import SpeedTest, Timing, Variant
from qwenops.errors import BadInput, CheckFailed, ChildDied, PartMissing
from qwenops.model.types import Model
from qwenops.runtime.flags import child_environment
from qwenops.runtime.types import Runtime

LIMIT_S = 3600.0
_KEPT_LINES = 40
_ROOM = 64


@dataclass(frozen=True)
class LlamaServer:
    """The engine, on the llama-server of a runtime."""

    runtime: Runtime
    limit_s: float = LIMIT_S
    name: EngineName = "llama-server"
    can_stay: bool = True

    def cannot(self, variant: Variant, test: SpeedTest) -> str:
        """Its timings of a picture hold the encoder and the tokens in one figure."""
        return "llama-server times a picture's encoding and its tokens as one" if test.image else ""

    def open(self, variant: Variant, tests: Sequence[SpeedTest]) -> ServerSession:
        """Start the server on the variant, wait until it answers, warm up. Raises PartMissing, ChildDied."""
        session = ServerSession(self, variant, max((test.context for test in tests), default=1) + _ROOM)
        try:
            for test in tests:
                session.time(test)
        except BaseException:
            session.close()
            raise
        return session

    def time_load(self, variant: Variant, test: SpeedTest) -> Timing:
        """From starting the server to its being ready: the process and its own warm-up count, as for a user."""
        files = _file_of(variant).shards
        forget(files) if test.load == "cold" else read_through(files)
        began = time.monotonic()
        session = ServerSession(self, variant, 512)
        session.close()
        return Timing({test.name: session.load_seconds}, began, began + session.load_seconds, 0)


class ServerSession:
    """A llama-server that runs one variant."""

    idle_host_bytes = 0

    def __init__(self, engine: LlamaServer, variant: Variant, n_ctx: int) -> None:
        program = engine.runtime.llama_server_path
        assert program is not None
        model, settings = _file_of(variant), variant.settings
        threads = settings.threads or physical_cores()
        self._engine = engine
        self._random = random.Random()
        self._n_vocab = _vocabulary(model)
        self._folder = Path(tempfile.mkdtemp(prefix="qwenops-bench-"))
        self._socket = str(self._folder / "s.sock")
        command = [str(program), "--model", str(model.path), "--host", self._socket, "--no-webui", "--offline"]
        command += ["-c", str(n_ctx), "-np", "1", "-b", str(settings.batch), "-ub", str(settings.ubatch)]
        command += ["-t", str(threads), "--flash-attn", settings.flash_attn, "--cache-ram", "0"]
        command += ["--cache-type-k", settings.kv_type, "--cache-type-v", settings.kv_type]
        if settings.gpu_layers is not None:
            command += ["-ngl", str(settings.gpu_layers)]
        folders = [folder for backend in engine.runtime.backends for folder in backend.folders]
        environment = child_environment({**os.environ, **engine.runtime.environment}, program, folders, {})
        began = time.monotonic()
        self._process = _start(command, environment, self._folder)
        self._tail: deque[str] = deque(maxlen=_KEPT_LINES)
        self._drain = threading.Thread(target=self._keep_tail, daemon=True)
        self._drain.start()
        try:
            self._wait(began + engine.limit_s)
        except BaseException:
            self.close()
            raise
        self.load_seconds = time.monotonic() - began
        on_device = settings.gpu_layers != 0
        self.info: Mapping[str, Any] = {
            "name": engine.name,
            "version": engine.runtime.llama_server_build or "",
            "gpu": bool(engine.runtime.devices) and on_device,
            "devices": [d.name for d in engine.runtime.devices] if on_device else [],
            "threads": threads,
        }

    def processes(self) -> frozenset[int]:
        """The server."""
        return frozenset({self._process.pid})

    def time(self, test: SpeedTest) -> Timing:
        """One repetition by the server's own clock; behind a depth, what it has cached is used and checked."""
        before = self._tokens(test.depth)
        if test.prompt:
            if before:
                self._complete(before, 0, keep=True)
            return self._prompt(test, before)
        began = time.monotonic()
        answer = self._complete(before or self._tokens(1), test.generate)
        said = answer["timings"]
        if said["predicted_n"] != test.generate or test.generate < 2:
            raise CheckFailed(f"llama-server generated {said['predicted_n']} tokens, asked for {test.generate}")
        rate = (test.generate - 1) / (said["predicted_ms"] / 1000)
        ended = time.monotonic()
        start = max(began, ended - said["predicted_ms"] / 1000)
        return Timing({test.name: rate}, start, ended, test.generate)

    def _prompt(self, test: SpeedTest, before: list[int]) -> Timing:
        began = time.monotonic()
        answer = self._complete([*before, *self._tokens(test.prompt)], 1, keep=bool(before))
        ended = time.monotonic()
        said = answer["timings"]
        if said["prompt_n"] != test.prompt:
            raise CheckFailed(
                f"llama-server read {said['prompt_n']} tokens where {test.prompt} were new:"
                " this model's cache cannot be kept for a depth"
            )
        rate = test.prompt / (said["prompt_ms"] / 1000)
        return Timing({test.name: rate, f"first-token {test.name}": ended - began}, began, ended, test.prompt)

    def close(self) -> None:
        """End the server and remove its folder."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._drain.join(timeout=1)
        if self._process.stdout is not None:
            self._process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _tokens(self, n: int) -> list[int]:
        return [self._random.randrange(self._n_vocab) for _ in range(n)]

    def _complete(self, prompt: list[int], n_predict: int, *, keep: bool = False) -> dict[str, Any]:
        body = {
            "prompt": prompt,
            "n_predict": n_predict,
            "cache_prompt": keep,
            "ignore_eos": True,
            "samplers": ["temperature"],
            "return_tokens": False,
        }
        status, answer = self._ask("POST", "/completion", body, self._engine.limit_s)
        if status != 200:
            raise CheckFailed(f"llama-server refused: {answer.get('error', {}).get('message', status)}")
        return answer

    def _wait(self, until: float) -> None:
        """Until the server says that it is ready. Raises ChildDied with its last words where it ends instead."""
        while True:
            if self._process.poll() is not None:
                raise self._died()
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self._ask("GET", "/health", None, 5)[0] == 200:
                    return
            if time.monotonic() > until:
                raise ChildDied(f"llama-server was not ready within {self._engine.limit_s:.0f} s")
            time.sleep(0.01)

    def _ask(self, method: str, path: str, body: Any, limit_s: float) -> tuple[int, dict[str, Any]]:
        connection = _SocketConnection(self._socket, limit_s)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            if body is None:
                raise
            if isinstance(error, ConnectionError):  # mostly its end, which the system tells a moment later
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(2)
            if self._process.poll() is not None:
                raise self._died() from None
            raise ChildDied(f"llama-server did not answer: {error}") from None
        finally:
            connection.close()
        value = json.loads(text) if text.startswith(b"{") else {}
        return answer.status, value

    def _died(self) -> ChildDied:
        self._drain.join(timeout=1)
        said = next((line for line in reversed(self._tail) if "error" in line.lower()), None)
        said = said or (self._tail[-1] if self._tail else "it said nothing")
        code = self._process.returncode
        how = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with {code}"
        return ChildDied(f"llama-server {how}: {said.strip()}")

    def _keep_tail(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = raw.decode("utf-8", "replace")
            if line.strip():
                self._tail.append(line)


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a socket of the file system, which nobody else can reach."""

    def __init__(self, path: str, limit_s: float) -> None:
        super().__init__("localhost", timeout=limit_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _start(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise PartMissing(f"{command[0]} cannot be started: {error.strerror}") from None


def _file_of(variant: Variant) -> Model:
    if variant.model is None:
        raise BadInput(f"the files of {variant.label} cannot be read from here")
    return variant.model


def _vocabulary(model: Model) -> int:
    """How many tokens the model knows, by its embedding's rows; the list itself may be unread."""
    found = next((t for t in model.header.tensors if t.name == "token_embd.weight"), None)
    return found.shape[1] if found else 1000
