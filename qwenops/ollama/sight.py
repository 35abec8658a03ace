"""Whether a model sees: that a picture was taken at all, and that a made-up word in it was read.

A server says `vision` for any projector, and some ignore the picture without a word. So one question is asked twice,
without and with a picture; the prompt must grow by the picture's tokens, and the word, which nobody can know, must
come back.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from qwenops.errors import BadInput, CheckFailed
from qwenops.model.image_tokens import (
    CELL_PIXELS,
    MARKER_TOKENS,
    MAX_TOKENS,
    MIN_TOKENS,
    image_tokens,
)
from qwenops.model.types import Model
from qwenops.ollama.drawing import CONSONANTS, DIGITS, VOWELS, word_png
from qwenops.ollama.types import Progress, silent
from qwenops.runtime.client import Client, Generation
from qwenops.runtime.flags import image_limits
from qwenops.runtime.names import checked_name
from qwenops.runtime.types import Runtime
from qwenops.runtime.wire import ServerRefused

_QUESTION = "Write down the text in this picture, nothing else."
_ANSWER_TOKENS = 48
_READS = frozenset(CELL_PIXELS)
_READS_FROM_PARAMETERS = 500_000_000


@dataclass(frozen=True)
class Sight:
    """What came of the two questions. Tokens of the picture with its markers; `planned_tokens` None where unknown.

    `read_required` says whether the model is known to read; where it is not, a word not read is no failure.
    """

    word: str
    answer: str
    grew_by_tokens: int
    planned_tokens: int | None
    width: int
    height: int
    seconds: float
    read_required: bool

    @property
    def taken(self) -> bool:
        """The prompt grew by what the picture takes, within a few tokens."""
        if self.planned_tokens is None:
            return self.grew_by_tokens >= MIN_TOKENS
        return abs(self.grew_by_tokens - self.planned_tokens) <= max(4, self.planned_tokens // 50)

    @property
    def read(self) -> bool:
        """The word is in the answer, whatever stands around it."""
        return _letters(self.word) in _letters(self.answer)

    @property
    def ok(self) -> bool:
        """Taken, and read where reading is required."""
        return self.taken and (self.read or not self.read_required)

    @property
    def exit_code(self) -> int:
        """0, or 1 when the model does not see."""
        return 0 if self.ok else 1

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "taken": self.taken, "read": self.read, "ok": self.ok}


def look(
    name: str,
    runtime: Runtime,
    *,
    model: Model | None = None,
    most_tokens: int = MAX_TOKENS,
    read_required: bool | None = None,
    word: str | None = None,
    progress: Progress = silent,
) -> Sight:
    """Show a model a small picture with a made-up word and say what came of it.

    `model` lets the picture's tokens be planned and tells whether reading can be expected; `most_tokens` is the
    image budget in force. Raises BadInput for a model without vision, CheckFailed when the picture is refused.
    """
    wanted = checked_name(name).short
    client = Client(runtime.url)
    capabilities = client.show(wanted).get("capabilities") or ()
    if "vision" not in capabilities:
        raise BadInput(f"{wanted} has no projector: it cannot take a picture", do="name its mmproj in a second FROM")
    word = word or made_up_word()
    png, width, height = word_png(word)
    think = False if "thinking" in capabilities else None
    started = time.monotonic()
    progress(f"asking {wanted} without a picture", 0, 0)
    blind = _ask(client, wanted, None, think, tokens=1)
    progress(f"showing {wanted} a picture", 0, 0)
    seeing = _show(client, wanted, png, think)
    return Sight(
        word=word,
        answer=seeing.text.strip(),
        grew_by_tokens=seeing.prompt_tokens - blind.prompt_tokens,
        planned_tokens=planned_tokens(model, width, height, most_tokens, runtime.environment) if model else None,
        width=width,
        height=height,
        seconds=time.monotonic() - started,
        read_required=(model is not None and known_to_read(model)) if read_required is None else read_required,
    )


def planned_tokens(
    model: Model,
    width: int,
    height: int,
    most_tokens: int = MAX_TOKENS,
    environment: Mapping[str, str] | None = None,
) -> int | None:
    """The tokens that Ollama's llama-server makes of a picture, with its markers; None for an unknown family.

    `environment` is the server's: LLAMA_ARG_IMAGE_MIN_TOKENS counts where Ollama passes no flag of its own.
    """
    if model.architecture not in CELL_PIXELS:
        return None
    least = image_limits(model.architecture, environment or {})[0] or MIN_TOKENS
    size = image_tokens(width, height, model.architecture, min(least, most_tokens), most_tokens)
    return size.tokens + MARKER_TOKENS


def known_to_read(model: Model) -> bool:
    """Whether a plainly printed word must be read: the Qwen vision families, in the sizes that were trained."""
    return model.architecture in _READS and model.parameters >= _READS_FROM_PARAMETERS


def made_up_word(seed: int | None = None) -> str:
    """Six letters that can be spoken and mean nothing, and three digits: "KAPUFE 947"."""
    chance = random.Random(seed)
    letters = "".join(chance.choice(CONSONANTS) + chance.choice(VOWELS) for _ in range(3))
    return f"{letters} {''.join(chance.choice(DIGITS) for _ in range(3))}"


def _show(client: Client, name: str, png: bytes, think: bool | None) -> Generation:
    """The answer to the picture; empty where the server could not make sense of what the model wrote."""
    try:
        try:
            answer = _ask(client, name, png, think, tokens=_ANSWER_TOKENS)
            if answer.prompt_tokens:
                return answer
            # Ollama breaks an answer off after 30 equal tokens and then counts nothing (llm/llama_server.go,
            # Completion, 0.32.14): the same question for one token has the count, and the picture is cached.
            return replace(_ask(client, name, png, think, tokens=1), text=answer.text)
        except ServerRefused as refused:
            if "does not match the expected" not in refused.text:
                raise
            return replace(_ask(client, name, png, think, tokens=1), text="")
    except ServerRefused as refused:
        raise _not_taken(name, refused) from None


def _ask(client: Client, name: str, picture: bytes | None, think: bool | None, *, tokens: int) -> Generation:
    message: dict[str, Any] = {"role": "user", "content": _QUESTION}
    if picture is not None:
        message["images"] = [picture]
    options = {"temperature": 0, "seed": 1, "num_predict": tokens}
    return client.chat(name, [message], options=options, think=think)


def _not_taken(name: str, refused: ServerRefused) -> CheckFailed:
    if "context" in refused.text:
        return CheckFailed(
            f"{name} cannot take a picture: {refused.text}",
            do=f"qwenops update {name} --for ocr     (a larger num_ctx)",
        )
    return CheckFailed(
        f"{name} did not take the picture: {refused.text}",
        do=(f"qwenops show {name}     (does the projector belong to the model?)", "qwenops doctor"),
    )


def _letters(text: str) -> str:
    return re.sub(r"[^0-9a-z]", "", text.lower())
