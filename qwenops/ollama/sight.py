"""Whether a model sees: that a picture was taken, that its text was read, that two shapes were told apart.

A server says `vision` for any projector, and some ignore the picture without a word. So one question is asked twice,
without and with a picture: the prompt must grow by the picture's tokens, and a word and digits that nobody can know
must come back. Only then a second question follows in the same conversation, about two shapes. Asked as a turn of
its own it would cost the picture again: a template that puts the text first shares no beginning with the first.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qwenops.memory.types import Need
from qwenops.model.image_tokens import CELL_PIXELS, MARKER_TOKENS, MAX_TOKENS, MIN_TOKENS, image_tokens
from qwenops.model.types import Model
from qwenops.ollama import serverlog
from qwenops.ollama.load import Loaded, projector_place
from qwenops.ollama.runners import sharing
from qwenops.ollama.scene import READ, Scene, made_up_scene, scene_png
from qwenops.ollama.sight_causes import next_step, place, refusal, why, without_projector
from qwenops.ollama.sight_judge import Finding, Said, judge_reading, judge_relation
from qwenops.ollama.types import Progress, silent
from qwenops.runtime.client import Client
from qwenops.runtime.flags import image_limits
from qwenops.runtime.names import checked_name
from qwenops.runtime.types import Runtime
from qwenops.runtime.wire import ServerRefused

_ANSWER_TOKENS = 64
_THINKING_TOKENS = 2048  # for a model that cannot be told not to think
_ALWAYS_THINKS = re.compile(r"^RENDERER \S+-thinking$", re.MULTILINE)
_READS_FROM_PARAMETERS = 500_000_000
_RELATES_FROM_PARAMETERS = 2_000_000_000


@dataclass(frozen=True)
class Answer:
    """One question with its answer. Tokens as the server counts them, seconds for the prompt and for the answer."""

    question: str
    said: Said
    prompt_tokens: int
    tokens: int
    prompt_seconds: float
    generate_seconds: float

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "question": self.question,
            "text": self.said.text.strip(),
            "thinking": self.said.thinking.strip(),
            "done_reason": self.said.done_reason,
            "prompt_tokens": self.prompt_tokens,
            "tokens": self.tokens,
            "prompt_seconds": round(self.prompt_seconds, 2),
            "generate_seconds": round(self.generate_seconds, 2),
        }


@dataclass(frozen=True)
class Sight:
    """What came of the questions, a finding a part; a part that was not asked for has none.

    `grew_by_tokens` is what the picture added to the prompt, markers included, None where it was refused;
    `planned_tokens` is None where nobody knows. `read_required` and `relation_required` say what is known of the model.
    """

    name: str
    scene: Scene
    answers: tuple[Answer, ...]
    findings: tuple[Finding, ...]
    grew_by_tokens: int | None
    planned_tokens: int | None
    seconds: float
    read_required: bool
    relation_required: bool

    @property
    def failed(self) -> Finding | None:
        """The first required part that is not as it should be."""
        return next((f for f in self.findings if f.required and not f.ok), None)

    @property
    def ok(self) -> bool:
        """Whether everything required is right."""
        return self.failed is None

    @property
    def exit_code(self) -> int:
        """0, or 1 when the model does not see."""
        return 0 if self.ok else 1

    def right(self, *parts: str) -> bool:
        """Whether all of these parts were asked for and are right."""
        return all(any(f.part == part and f.ok for f in self.findings) for part in parts)

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values."""
        failed = self.failed
        return {
            "ok": self.ok,
            "taken": self.right("picture"),
            "read": self.right("word", "number"),
            "related": self.right("relation"),
            "failed": failed.part if failed else None,
            "why": why(failed) if failed else None,
            "do": list(next_step(failed, self.name)) if failed else [],
            "scene": self.scene.as_data(),
            "parts": [_part(f) for f in self.findings],
            "answers": [a.as_data() for a in self.answers],
            "grew_by_tokens": self.grew_by_tokens,
            "planned_tokens": self.planned_tokens,
            "read_required": self.read_required,
            "relation_required": self.relation_required,
            "seconds": round(self.seconds, 2),
        }


def look(
    name: str,
    runtime: Runtime,
    *,
    model: Model | None = None,
    need: Need | None = None,
    loaded: Loaded | None = None,
    most_tokens: int = MAX_TOKENS,
    read_required: bool | None = None,
    scene: Scene | None = None,
    progress: Progress = silent,
) -> Sight:
    """Show a model one made-up picture, ask one or two questions about it, and say what came of them.

    `model` lets the picture's tokens be planned and tells what can be expected of it; `most_tokens` is the image
    budget in force; `need` and `loaded` are the plan and the load that came before, by which it is judged where the
    model ran. A picture that is refused is a finding, not an error; raises ServerDown where nobody answers, and
    CheckFailed for a model that is not there.
    """
    wanted = checked_name(name).short
    scene = scene or made_up_scene()
    reads = known_to_read(model) if read_required is None else read_required
    relates = reads and (model is None or model.parameters >= _RELATES_FROM_PARAMETERS)
    required = {"answer": reads, "word": reads, "number": reads, "relation": relates}
    client = Client(runtime.url)
    shown = client.show(wanted)
    started = time.monotonic()
    log = serverlog.mark(runtime)
    talk = _Talk(client, wanted, shown, progress)
    planned, grew = None, None
    findings: list[Finding] = []
    if "vision" not in (shown.get("capabilities") or ()):
        findings.append(without_projector())
    else:
        png, width, height = scene_png(scene)
        planned = planned_tokens(model, width, height, most_tokens, runtime.environment) if model else None
        try:
            grew = talk.read(png)
            findings += [_taken(grew, planned), *judge_reading(scene, talk.answers[0].said)]
            if all(f.ok for f in findings):
                findings.append(judge_relation(scene, talk.relate(scene)))
            findings += _device(client, wanted, runtime, need, loaded, log)
        except ServerRefused as refused:
            findings.append(refusal(refused.text))
    return Sight(
        name=name,
        scene=scene,
        answers=tuple(talk.answers),
        findings=tuple(replace(f, required=required.get(f.part, True)) for f in findings),
        grew_by_tokens=grew,
        planned_tokens=planned,
        seconds=time.monotonic() - started,
        read_required=reads,
        relation_required=relates,
    )


def planned_tokens(
    model: Model,
    width: int,
    height: int,
    most_tokens: int = MAX_TOKENS,
    environment: Mapping[str, str] | None = None,
) -> int | None:
    """The tokens that Ollama's llama-server makes of a picture, with its markers; None for an unknown family.

    `environment` is the server's: LLAMA_ARG_IMAGE_MIN_TOKENS counts where Ollama passes no flag of its own,
    LLAMA_ARG_IMAGE_MAX_TOKENS always.
    """
    if model.architecture not in CELL_PIXELS:
        return None
    least, cap = image_limits(model.architecture, environment or {})
    most = min(most_tokens, cap or most_tokens)
    size = image_tokens(width, height, model.architecture, min(least or MIN_TOKENS, most), most)
    return size.tokens + MARKER_TOKENS


def known_to_read(model: Model | None) -> bool:
    """Whether a plainly printed word must be read: the Qwen vision families, in the sizes that were trained."""
    return model is not None and model.architecture in CELL_PIXELS and model.parameters >= _READS_FROM_PARAMETERS


def thinks_always(shown: Mapping[str, Any]) -> bool:
    """Whether a model, by /api/show, thinks whatever it is told: its renderer opens a thought in every answer.

    The answer has a field for the renderer that stays empty; the Modelfile in it names one (server/images.go, 0.32.14).
    """
    capable = "thinking" in (shown.get("capabilities") or ())
    return capable and bool(_ALWAYS_THINKS.search(str(shown.get("modelfile") or "")))


class _Talk:
    """The conversation about one picture."""

    def __init__(self, client: Client, name: str, shown: Mapping[str, Any], progress: Progress) -> None:
        self.client, self.name, self.progress = client, name, progress
        self.answers: list[Answer] = []
        thinks = "thinking" in (shown.get("capabilities") or ())
        self.think = False if thinks else None
        self.tokens = _THINKING_TOKENS if thinks_always(shown) else _ANSWER_TOKENS
        self.messages: list[dict[str, Any]] = []

    def read(self, png: bytes) -> int:
        """Ask for the text; the tokens by which the picture made the prompt grow."""
        self.progress(f"asking {self.name} without a picture", 0, 0)
        blind = self._ask([{"role": "user", "content": READ}], tokens=1)
        self.progress(f"showing {self.name} a picture", 0, 0)
        self.messages = [{"role": "user", "content": READ, "images": [png]}]
        answer = self._ask(self.messages, tokens=self.tokens)
        if not answer.prompt_tokens:
            # Ollama breaks an answer off after 30 equal tokens and then counts nothing (llm/llama_server.go,
            # Completion, 0.32.14): the same question for one token has the count, and the picture is cached.
            again = self._ask(self.messages, tokens=1)
            answer = replace(answer, prompt_tokens=again.prompt_tokens)
        self.answers.append(answer)
        return answer.prompt_tokens - blind.prompt_tokens

    def relate(self, scene: Scene) -> Said:
        """Ask how the two shapes lie, in the same conversation: the picture is cached."""
        self.progress(f"asking {self.name} about two shapes", 0, 0)
        self.messages += [
            {"role": "assistant", "content": self.answers[0].said.text},
            {"role": "user", "content": scene.relation_question},
        ]
        self.answers.append(self._ask(self.messages, tokens=self.tokens))
        return self.answers[-1].said

    def _ask(self, messages: Sequence[Mapping[str, Any]], *, tokens: int) -> Answer:
        """One turn, at temperature 0 and without penalties: they bend the digits of a number."""
        options = {
            "temperature": 0,
            "seed": 1,
            "num_predict": tokens,
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "repeat_penalty": 1,
        }
        question = str(messages[-1]["content"])
        try:
            g = self.client.chat(self.name, messages, options=options, think=self.think)
        except ServerRefused as refused:
            if "does not match the expected" not in refused.text:
                raise
            return Answer(question, Said("", garbled=True), 0, 0, 0.0, 0.0)
        said = Said(g.text, g.thinking, g.done_reason)
        return Answer(question, said, g.prompt_tokens, g.tokens, g.prompt_s, g.generate_s)


def _taken(grew: int, planned: int | None) -> Finding:
    """Whether the prompt grew by what the picture takes, within a few tokens."""
    if planned is None:
        near, expected = grew >= MIN_TOKENS, f"at least {MIN_TOKENS}"
    else:
        near, expected = abs(grew - planned) <= max(4, planned // 50), str(planned)
    return Finding("picture", f"{expected} tokens", f"the prompt grew by {grew} tokens", "" if near else "ignored")


def _device(
    client: Client, name: str, runtime: Runtime, need: Need | None, loaded: Loaded | None, log: serverlog.Mark
) -> list[Finding]:
    """Where the model ran: /api/ps now, and the log since the first question, for it may have been loaded anew."""
    model = next(iter(sharing(client, checked_name(name), client.ps())), None)
    backend, moved = projector_place(serverlog.lines_since(log)[0])
    if backend is None and loaded is not None:
        backend, moved = loaded.projector_backend, loaded.projector_moved
    found = place(
        devices=bool(runtime.devices),
        need=need,
        on_device_bytes=model.size_vram_bytes if model else None,
        projector_backend=backend,
        moved=moved,
    )
    return [found] if found else []


def _part(finding: Finding) -> dict[str, Any]:
    return {
        "part": finding.part,
        "ok": finding.ok,
        "cause": finding.cause or None,
        "required": finding.required,
        "expected": finding.expected,
        "observed": finding.observed,
    }
