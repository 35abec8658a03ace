"""Ollama through its API: what users will really get, by the durations that its answers end with.

The API takes text, not tokens, so prompts are made of short words that nearly every vocabulary has as one token, as
many as it takes; every prompt begins anew, so that nothing of it is cached. Source of the durations: api/types.go
(Metrics) and llm/llama_server.go, Ollama v0.32.14; n generated tokens lie n - 1 decodes apart, as llama-server counts.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qwenops.bench.engines import EngineName
from qwenops.bench.page_cache import forget, read_through
from qwenops.bench.types import SpeedTest, Timing, Variant
from qwenops.errors import CheckFailed, QwenopsError
from qwenops.ollama.runners import sharing
from qwenops.runtime.client import Client, Generation
from qwenops.runtime.names import checked_name
from qwenops.runtime.process import family_of
from qwenops.runtime.types import Runtime

LIMIT_S = 3600.0
_COMMON = """
time year people way day man thing woman life child world school state family student group country problem hand part
place case week company system program question work government number night point home water room mother area money
story fact month lot right study book eye job word business issue side kind head house service friend father power hour
game line end member law car city
"""
_WORDS = _COMMON.split()
_TRIES = 4
_OFF = 2
_ROOM = 64


@dataclass(frozen=True)
class Ollama:
    """The engine, on a server that answers. `options` are what the user set by hand; the rest is the model's own."""

    runtime: Runtime
    options: Mapping[str, Any] = field(default_factory=dict)
    name: EngineName = "ollama"
    can_stay: bool = False

    def cannot(self, variant: Variant, test: SpeedTest) -> str:
        """What the API does not show, or the server decides for all models."""
        settings, kv = variant.settings, self.kv_type
        if test.image:
            return "Ollama times a picture's encoding and its tokens as one"
        if test.load == "cold" and variant.model is None:
            return "the model's files are not in reach: they cannot be put out of the page cache"
        if test.prompt and test.depth:
            return "Ollama's answer does not tell new tokens of a prompt from cached ones"
        if settings.kv_type not in ("f16", kv):
            return f"Ollama has one KV type for all models, {kv} now: OLLAMA_KV_CACHE_TYPE of the server"
        return ""

    @property
    def kv_type(self) -> str:
        """The KV type in force."""
        return self.runtime.setting("OLLAMA_KV_CACHE_TYPE") or "f16"

    def open(self, variant: Variant, tests: Sequence[SpeedTest]) -> OllamaSession:
        """Have the server load the model, and find out how many words make a prompt. Raises ServerDown, CheckFailed."""
        session = OllamaSession(self, variant, max((test.context for test in tests), default=0) + _ROOM)
        try:
            for test in tests:
                session.time(test)
        except BaseException:
            with contextlib.suppress(QwenopsError):
                session.close()
            raise
        return session

    def time_load(self, variant: Variant, test: SpeedTest) -> Timing:
        """From the request to the model's being ready, after it was sent away; Ollama times no load by itself."""
        client = Client(self.runtime.url)
        unload(client, variant.registered)
        if variant.model is not None:
            forget(variant.model.shards) if test.load == "cold" else read_through(variant.model.shards)
        began = time.monotonic()
        client.load(variant.registered, options=dict(self.options), timeout_s=LIMIT_S)
        ended = time.monotonic()
        unload(client, variant.registered)
        return Timing({test.name: ended - began}, began, ended, 0)


class OllamaSession:
    """A model that the server has loaded."""

    idle_host_bytes = 0

    def __init__(self, engine: Ollama, variant: Variant, context: int) -> None:
        self._engine, self._name = engine, variant.registered
        self._client = Client(engine.runtime.url)
        self._random = random.Random()
        self._words: dict[int, int] = {}
        self._options: dict[str, Any] = dict(engine.options)
        unload(self._client, self._name)
        self._before = family_of(engine.runtime.pid)
        self.load_seconds = self._load()
        has = self._context_length()
        if has is not None and has < context:
            self._options["num_ctx"] = context
            self.load_seconds = self._load()
        devices = engine.runtime.devices
        loaded = next(iter(self._shown()), None)
        on_device = bool(loaded and loaded.size_vram_bytes)
        self.info: Mapping[str, Any] = {
            "name": engine.name,
            "version": f"{engine.runtime.version} (llama-server {engine.runtime.llama_server_build or '?'})",
            "gpu": on_device,
            "devices": [d.name for d in devices] if on_device else [],
            "threads": self._options.get("num_thread"),
            "num_ctx": self._context_length(),
            "kv_type": engine.kv_type,
        }

    def processes(self) -> frozenset[int]:
        """The runner that came with this load, where the server's processes can be seen."""
        return family_of(self._engine.runtime.pid) - self._before

    def time(self, test: SpeedTest) -> Timing:
        """One repetition. Raises CheckFailed where the server answers with other lengths than were asked for."""
        if test.prompt:
            return self._prompt(test)
        best: tuple[Generation, float] | None = None
        for _ in range(_TRIES):
            began = time.monotonic()
            answer = self._ask(self._text(test.depth or 1), test.generate)
            if best is None or answer.tokens > best[0].tokens:
                best = (answer, began)
            if answer.tokens >= test.generate:
                break
        assert best is not None
        answer, began = best
        if answer.tokens * 2 < test.generate or answer.tokens < 2:
            raise CheckFailed(
                f"{self._name} ended each answer early, at {answer.tokens} of {test.generate} tokens at most"
            )
        start = began + answer.total_s - answer.generate_s
        rate = (answer.tokens - 1) / answer.generate_s
        return Timing({test.name: rate}, start, start + answer.generate_s, answer.tokens)

    def _prompt(self, test: SpeedTest) -> Timing:
        found = 0
        for _ in range(_TRIES):
            began = time.monotonic()
            answer = self._ask(self._text(test.prompt), 1)
            ended = time.monotonic()
            found = answer.prompt_tokens
            if abs(found - test.prompt) <= _OFF and answer.prompt_s > 0:
                values = {test.name: found / answer.prompt_s, f"first-token {test.name}": ended - began}
                return Timing(values, began, ended, found)
            self._words[test.prompt] = max(1, self._words.get(test.prompt, test.prompt) + test.prompt - found)
        raise CheckFailed(f"a prompt of {test.prompt} tokens could not be made for {self._name}: the last had {found}")

    def close(self) -> None:
        """Have the server let go of it."""
        unload(self._client, self._name)

    def _text(self, tokens: int) -> str:
        """Words that were not sent before in this order; as many as were found to make so many tokens."""
        count = self._words.get(tokens, tokens)
        return "".join(f" {self._random.choice(_WORDS)}" for _ in range(count)).strip()

    def _ask(self, text: str, num_predict: int) -> Generation:
        # Far-flung words, so that no answer ends early or loops, which the server would break off.
        options = {**self._options, "num_predict": num_predict, "temperature": 1.5, "stop": []}
        return self._client.generate(self._name, text, raw=True, options=options, timeout_s=LIMIT_S)

    def _load(self) -> float:
        began = time.monotonic()
        self._client.load(self._name, options=self._options, timeout_s=LIMIT_S)
        return time.monotonic() - began

    def _shown(self) -> tuple[Any, ...]:
        return sharing(self._client, checked_name(self._name), self._client.ps())

    def _context_length(self) -> int | None:
        loaded = next(iter(self._shown()), None)
        return loaded.context_length if loaded else None


def unload(client: Client, name: str) -> None:
    """Send a model away, by whatever name of it is shown; nothing where it is not loaded."""
    wanted = checked_name(name)
    for one in sharing(client, wanted, client.ps()):
        client.unload(wanted.short, shown_as=one.name)
