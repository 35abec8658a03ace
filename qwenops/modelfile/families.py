"""Which family a model is of, whether it thinks, and how Ollama is to talk to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from qwenops.model.types import Model
from qwenops.modelfile.types import Mode
from qwenops.tables import load_table

_QWEN3X = re.compile(r"qwen[ _-]?3[._](5|6|8)(?!\d)", re.IGNORECASE)
_QWEN25VL = re.compile(r"qwen[ _-]?2[._]5[ _-]?vl", re.IGNORECASE)
_QWEN3 = re.compile(r"qwen[ _-]?3(?![._]?\d)", re.IGNORECASE)
_REQUIRES = "0.30.0"
_SWITCH: dict[Mode, str] = {
    "thinking": 'It is asked to think unless a request says "think": false; the values below are for thinking.',
    "instruct": 'The values below are for answers without thoughts: say "think": false in each request, for no word '
    "of a Modelfile can.",
}


@dataclass(frozen=True)
class Prompt:
    """Words that the model's makers use for a task, and where they wrote them."""

    text: str
    source: str


@dataclass(frozen=True)
class ChatFormat:
    """How a chat becomes a prompt: by Ollama's renderer and parser, or (both None) by the file's own template."""

    renderer: str | None
    parser: str | None
    reason: str


def family_of(model: Model) -> str:
    """The family by architecture, and by name where an architecture serves several.

    "qwen2.5-vl", "qwen3-vl", "qwen3.5", "qwen3.6", "qwen3.8", "qwen3", "qwen2", "llama"; any other model is of the
    family that its architecture names, or "other", and nothing is claimed for it.
    """
    architecture = model.architecture
    if architecture in ("qwen3vl", "qwen3vlmoe"):
        return "qwen3-vl"
    if architecture == "qwen25vl":
        return "qwen2.5-vl"
    if architecture == "qwen2vl":
        # Upstream files of Qwen2-VL and Qwen2.5-VL share one architecture; the projector or the name tells them apart.
        kind = model.projector.kind if model.projector else ""
        return "qwen2.5-vl" if kind == "qwen2.5vl_merger" or _QWEN25VL.search(_names(model)) else "qwen2-vl"
    if architecture in ("qwen35", "qwen35moe"):
        found = _QWEN3X.search(_names(model))
        return f"qwen3.{found.group(1)}" if found else "qwen3.5"
    if architecture in ("qwen3", "qwen3moe"):
        # Many models of other makers have this architecture; only Qwen's own values are known.
        return "qwen3" if _QWEN3.search(_names(model)) else "other"
    return architecture


def mode_of(model: Model) -> Mode:
    """Whether the model thinks before it answers: by its name, else as its family does when nothing is asked.

    Ollama asks a model that can think to do so unless the request says "think": false (server/routes.go, 0.32.14).
    """
    named = named_mode(model)
    if named:
        return named
    return "thinking" if family_of(model) in ("qwen3", "qwen3.5", "qwen3.6", "qwen3.8") else "instruct"


def named_mode(model: Model) -> Mode | None:
    """The mode that the model's own name says it was trained for; None where the name is silent."""
    names = _names(model).lower()
    if "non-thinking" in names:
        return "instruct"
    if "thinking" in names:
        return "thinking"
    return "instruct" if "instruct" in names else None


def switches(family: str) -> bool:
    """Whether a model of the family thinks or not as each request says."""
    return bool(_facts(family).get("switches"))


def has_thinkers(family: str) -> bool:
    """Whether models of the family that think are known to us: Ollama then has a renderer for their thoughts."""
    return "thinking" in _facts(family).get("renderer", {})


def chat_format(family: str, mode: Mode, *, has_chat_template: bool = True) -> ChatFormat:
    """The RENDERER and PARSER of a family in Ollama 0.32.14, or none, and why."""
    facts = _facts(family)
    renderer, parser = (facts.get(key, {}).get(mode) for key in ("renderer", "parser"))
    if renderer and parser:
        reason = "Ollama writes the chats of this family itself, images first, and reads its tool calls and thoughts."
        if facts.get("switches"):
            reason += " " + _SWITCH[mode]
        return ChatFormat(renderer, parser, reason)
    if has_chat_template:
        return ChatFormat(
            None, None, "No TEMPLATE, RENDERER or PARSER: the chat template inside the model file serves."
        )
    return ChatFormat(
        None, None, "The model file has no chat template and Ollama no renderer for it: prompts go in as they are."
    )


def requires(family: str) -> str:
    """The oldest Ollama that a Modelfile of ours for this family was made for."""
    return str(_facts(family).get("requires", _REQUIRES))


def hints(family: str, task: str = "") -> tuple[str, ...]:
    """What to know when this family is shown images through Ollama, in general and for a task."""
    facts = _facts(family)
    of_task = facts.get("task_hints", {}).get(task)
    return (*facts.get("hints", ()), *((of_task,) if of_task else ()))


def system_of(family: str, task: str) -> str | None:
    """The system message that belongs to the makers' own words for a task; None where there is none."""
    found: str | None = _facts(family).get("systems", {}).get(task)
    return found


def prompts(family: str, task: str) -> tuple[Prompt, ...]:
    """The makers' own words for a task."""
    return tuple(Prompt(**row) for row in _facts(family).get("prompts", {}).get(task, ()))


def _facts(family: str) -> dict[str, Any]:
    found: dict[str, Any] = load_table("qwenops.modelfile", "families.toml").get(family, {})
    return found


def _names(model: Model) -> str:
    keys = ("general.name", "general.basename", "general.finetune", "general.base_model.0.name")
    values = [str(model.header.metadata.get(key, "")) for key in keys]
    return " ".join([model.name, *values, model.path.name])
