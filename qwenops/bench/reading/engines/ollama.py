"""A registered model through Ollama's API: what users will really get, with the parameters of its Modelfile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from qwenops.bench.reading.engines.types import Failed, Heard, OnWords
from qwenops.bench.reading.loops import stuck
from qwenops.bench.reading.types import Answer, Asking, Ended, Question
from qwenops.errors import BadInput, CheckFailed, QwenopsError, ServerDown
from qwenops.model.image_tokens import CELL_PIXELS, MAX_TOKENS, MIN_TOKENS, image_tokens
from qwenops.model.types import Model
from qwenops.ollama.runners import sharing
from qwenops.ollama.sight import planned_tokens
from qwenops.runtime.client import Client
from qwenops.runtime.flags import image_cap, image_limits
from qwenops.runtime.names import checked_name
from qwenops.runtime.types import Runtime
from qwenops.runtime.wire import ServerRefused

_LOAD_LIMIT_S: Final = 1800.0
_LOOK_EVERY: Final = 64  # characters


class _Stuck(Exception):
    """Ends a stream whose text only repeats itself."""


class OllamaReader:
    """One registered model. `model` is what its blobs say, None where they are out of reach from here."""

    def __init__(self, name: str, runtime: Runtime, model: Model | None) -> None:
        self.name = checked_name(name).short
        self.source = self.label = name
        self.runtime, self.model = runtime, model
        self.client = Client(runtime.url)
        self.num_ctx: int | None = None

    @cached_property
    def engine(self) -> Mapping[str, Any]:
        """The server with its version."""
        return {"name": "ollama", "version": self.client.version(), "gpu": bool(self.runtime.devices)}

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The digest that the server lists (it covers weights and parameters), its version, its image limits."""
        wanted = checked_name(self.name).folded
        digest = next((t.digest for t in self.client.tags() if checked_name(t.name).folded == wanted), "")
        limits = {k: v for k, v in self.runtime.environment.items() if k.startswith("LLAMA_ARG_")}
        return {"digest": digest, "engine": ["ollama", self.engine["version"]], "environment": limits}

    def planned_tokens(self, asking: Asking, question: Question) -> int | None:
        """What the question's pictures take under the server's limits, markers included; None where nobody knows."""
        if self.model is None:
            return None
        each = [planned_tokens(self.model, *size, environment=self.runtime.environment) for size in question.sizes]
        return sum(n for n in each if n is not None) if None not in each else None

    def seen_as(self, asking: Asking, size: tuple[int, int]) -> tuple[int, int] | None:
        """The sides of a picture after the resize of Ollama's llama-server."""
        if self.model is None or self.model.architecture not in CELL_PIXELS:
            return None
        least, cap = image_limits(self.model.architecture, self.runtime.environment)
        most = cap or MAX_TOKENS
        seen = image_tokens(*size, self.model.architecture, min(least or MIN_TOKENS, most), most)
        return seen.width, seen.height

    def read(self, asking: Asking, questions: Sequence[Question], heard: Heard, on_words: OnWords) -> None:
        """Load the model, then ask one question after another.

        Raises CheckFailed for a model that is not there or does not see, BadInput for an image budget that is not the
        server's, ServerDown where it goes away.
        """
        self._check_budget(asking)
        think = self._load(asking)
        for question in questions:
            try:
                self._check_room(asking, question)
                answer = self._answer(asking, question, think, on_words)
            except ServerDown:
                raise
            except QwenopsError as error:
                heard(question, Failed(error.message, error.do))
                continue
            heard(question, answer)

    def close(self) -> None:
        """Unload the model: two at a time would push each other's layers to the CPU."""
        with contextlib.suppress(QwenopsError):
            for one in sharing(self.client, checked_name(self.name), self.client.ps()):
                self.client.unload(self.name, shown_as=one.name)

    def _check_budget(self, asking: Asking) -> None:
        cap, wanted = image_cap(self.runtime.environment) or MAX_TOKENS, asking.image_tokens
        if wanted is None or wanted == cap:
            return
        least = image_limits(self.model.architecture, {})[0] if self.model else None
        if least and wanted < least:
            # llama-server does not start with a maximum below the minimum that Ollama passes
            raise BadInput(
                f"Ollama gives every picture of this family at least {least} tokens", do="--engine llama-cpp-python"
            )
        setting = f"qwenops server write LLAMA_ARG_IMAGE_MAX_TOKENS={wanted}     (and start it again)"
        raise BadInput(
            f"the image budget of this Ollama is {cap} tokens, a setting of its server",
            do=(setting, "or --engine llama-cpp-python"),
        )

    def _load(self, asking: Asking) -> bool | None:
        """Load before the first question; whether to say that it is not to think, where it can choose."""
        try:
            capable = self.client.show(self.name).get("capabilities") or ()
        except ServerRefused as refused:
            if refused.status != 404:
                raise
            raise CheckFailed(f"Ollama has no model {self.source}", do="qwenops list") from None
        if "vision" not in capable:
            raise CheckFailed(
                f"{self.source} has no projector: it cannot take a picture", do=f"qwenops show {self.name}"
            )
        self.client.load(self.name, timeout_s=_LOAD_LIMIT_S)
        one = next(iter(sharing(self.client, checked_name(self.name), self.client.ps())), None)
        self.num_ctx = one.context_length if one else None
        return False if "thinking" in capable else None

    def _check_room(self, asking: Asking, question: Question) -> None:
        tokens = self.planned_tokens(asking, question)
        if tokens is None or self.num_ctx is None or tokens < self.num_ctx:
            return
        raise CheckFailed(
            f"the picture takes {tokens} tokens and {self.source} has a context of {self.num_ctx}: it was not sent",
            do=f"qwenops update {self.name} --for ocr     (a larger num_ctx)",
        )

    def _answer(self, asking: Asking, question: Question, think: bool | None, on_words: OnWords) -> Answer:
        options = {"temperature": asking.temperature, "seed": asking.seed, "num_predict": asking.most_tokens}
        messages = [{"role": "user", "content": question.prompt, "images": list(question.pictures)}]
        pieces: list[str] = []
        looked, written, started, first_at = 0, 0, time.monotonic(), 0.0

        def on_text(piece: str) -> None:
            nonlocal looked, written, first_at
            first_at = first_at or time.monotonic()
            pieces.append(piece)
            written += len(piece)
            if written - looked < _LOOK_EVERY:
                return
            looked = written
            on_words(question, written)
            if stuck("".join(pieces)):
                raise _Stuck

        try:
            told = self.client.chat(self.name, messages, options=options, think=think, on_text=on_text)
        except _Stuck:
            ended_at = time.monotonic()
            # leaving the stream stops the server, which then counts nothing: the same question for one token has it
            short = self.client.chat(self.name, messages, options={**options, "num_predict": 1}, think=think)
            spent = (first_at - started, ended_at - first_at)
            return Answer("".join(pieces), "loop", short.prompt_tokens, len(pieces), *spent)
        # Ollama breaks an answer off after 30 equal tokens, without a word (llm/llama_server.go, 0.32.14)
        endings: dict[str, Ended] = {"stop": "stop", "length": "length", "": "loop"}
        ended = endings.get(told.done_reason, "stop")
        tokens, prompt_tokens = told.tokens, told.prompt_tokens
        prompt_s, generate_s = told.prompt_s, told.generate_s
        if ended == "loop" and not prompt_tokens:
            now = time.monotonic()
            short = self.client.chat(self.name, messages, options={**options, "num_predict": 1}, think=think)
            prompt_tokens, tokens = short.prompt_tokens, len(pieces)
            prompt_s, generate_s = (first_at or now) - started, now - (first_at or now)
        return Answer(told.text, ended, prompt_tokens, tokens, prompt_s, generate_s)
