"""A short wish written out by a local model: asked, checked by program, told what is wrong, in the end refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from qwenops.errors import BadInput, CheckFailed
from qwenops.image.catalogue import find
from qwenops.image.prompt import prompt_of
from qwenops.image.prompt_write import again, complaints, kept_of, system_prompt
from qwenops.ollama.repetition import repeated_end
from qwenops.ollama.types import Progress, silent
from qwenops.result import Result
from qwenops.runtime.client import Client, Generation
from qwenops.runtime.names import checked_name
from qwenops.runtime.types import Runtime
from qwenops.runtime.wire import ServerRefused
from qwenops.setup.image_prompts import DEFAULT_MODEL

_MOST_WISH: Final = 4000
"""Characters: a wish that is longer is a prompt already."""
_OPTIONS: Final = {"temperature": 0.7, "top_p": 0.8, "num_predict": 1024}
"""Qwen's own sampling for instruct models; a passage of 200 words is about 300 tokens."""


def prompt_write_result(
    text: str,
    by: str,
    *,
    model: str = DEFAULT_MODEL,
    tries: int = 3,
    seed: int = 1,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress = silent,
) -> Result:
    """Write a wish out ("qwenops.image-prompt-write/1"); exit code 1 where every try was refused.

    Each try has its own seed and is told what was wrong with the one before. Raises ServerDown where no local server
    answers, BadInput where the server or the model is not on this machine, CheckFailed for a model that is not there.
    """
    from qwenops.runtime.discover import discover, need_server

    known, wish = find(model), prompt_of(text)
    if len(wish.text) > _MOST_WISH:
        raise BadInput(
            f"a wish of {len(wish.text)} characters is a prompt already", do="qwenops image prompt check -f FILE"
        )
    runtime = discover(probe_devices=False)
    need_server(runtime)
    stays_here(runtime, by)
    writer = _Writer(by, runtime, progress)
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": system_prompt(wish.language)},
        {"role": "user", "content": wish.text},
    ]
    made: list[dict[str, Any]] = []
    written: str | None = None
    for number in range(tries):
        say(f"{by} writes" + (f", try {number + 1} of {tries}" if number else ""))
        answer = writer.write(messages, seed + number)
        found = _looped(answer) or complaints(wish, answer.text, known)
        made.append(_row(answer, found))
        if not found:
            from qwenops.bench.reading.score import said

            written = said(answer.text).strip()
            break
        # the last answer alone is shown again: all of them would fill the context
        refused = {"role": "assistant", "content": answer.text[:_MOST_WISH]}
        messages = [*messages[:2], refused, {"role": "user", "content": again(wish.language, found)}]
    data = {
        "by": by,
        "model": known.id,
        "wish": wish.text,
        "language": wish.language,
        "kept": [{"kind": one.kind, "text": one.text} for one in kept_of(wish)],
        "written": written,
        "tries": made,
    }
    return Result("qwenops.image-prompt-write/1", data, _notes(data), 0 if written is not None else 1)


def stays_here(runtime: Runtime, name: str) -> None:
    """Refuse a server on another machine, and a model that Ollama only hands on to its cloud."""
    client = Client(runtime.url)
    if runtime.place == "remote":
        raise BadInput(
            f"OLLAMA_HOST names another machine ({client.where.host}), and nothing is sent there",
            do="OLLAMA_HOST=127.0.0.1:11434, or unset it",
        )
    wanted = checked_name(name).folded
    for one in client.tags():
        if checked_name(one.name).folded == wanted and one.remote_host:
            raise BadInput(
                f"{name} runs at {one.remote_host}: Ollama would send everything there", do="take a model that is here"
            )


class _Writer:
    """One model of the local server, loaded by its first answer."""

    def __init__(self, name: str, runtime: Runtime, progress: Progress) -> None:
        self.name, self.progress = checked_name(name).short, progress
        self.client = Client(runtime.url)
        try:
            capabilities = self.client.show(self.name).get("capabilities") or ()
        except ServerRefused as refused:
            if refused.status != 404:
                raise
            raise CheckFailed(f"Ollama has no model {name}", do="qwenops list") from None
        self.think = False if "thinking" in capabilities else None

    def write(self, messages: list[dict[str, Any]], seed: int) -> Generation:
        characters = [0]

        def on_text(piece: str) -> None:
            characters[0] += len(piece)
            self.progress(f"{self.name} writes: {characters[0]} characters", 0, 0)

        options = {**_OPTIONS, "seed": seed}
        return self.client.chat(self.name, messages, options=options, think=self.think, on_text=on_text)


def _looped(answer: Generation) -> tuple[str, ...]:
    if answer.done_reason == "" or (answer.done_reason == "length" and repeated_end(answer.text)):
        return ("It repeated itself without end.",)
    if answer.done_reason == "length":
        return ("It did not come to an end: write less.",)
    return ()


def _row(answer: Generation, found: tuple[str, ...]) -> dict[str, Any]:
    return {
        "text": answer.text,
        "complaints": list(found),
        "tokens": answer.tokens,
        "seconds": round(answer.prompt_s + answer.generate_s, 2),
    }


def _notes(data: dict[str, Any]) -> tuple[str, ...]:
    tries = len(data["tries"])
    kept = ", ".join(f"{one['text']!r}" for one in data["kept"])
    told = (f"kept to the letter: {kept}",) if kept and data["written"] is not None else ()
    return (*told, f"written at try {tries}") if tries > 1 and data["written"] is not None else told
