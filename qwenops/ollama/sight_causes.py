"""Why a part of the proof of sight failed: what the server's refusal means, where the model ran, what to do next."""

from __future__ import annotations

from collections.abc import Sequence

from qwenops.memory.types import Need
from qwenops.ollama.sight_judge import Cause, Finding, Part, shown

_REFUSAL_SHOWN = 240
_MISMATCH = ("mismatch between text model",)
_MISSING = ("image input is not supported", "provide the mmproj")
_CONTEXT = ("exceeds the available context", "exceed_context_size", "context size", "num_ctx")
_MEMORY = ("out of memory", "outofdevicememory", "failed to allocate", "unable to allocate", "cudamalloc")


def refusal(text: str) -> Finding:
    """What the server's own words about a picture mean (llama-server's messages, b10434, as Ollama passes them on)."""
    low, said = text.lower(), shown(text, _REFUSAL_SHOWN)
    known: tuple[tuple[Sequence[str], Part, Cause, str], ...] = (
        (_MISMATCH, "projector", "mismatch", "the projector of this model"),
        (_MISSING, "projector", "missing", "a projector"),
        (_CONTEXT, "picture", "context", "a context that holds the picture"),
        (_MEMORY, "picture", "memory", "memory for the picture"),
    )
    for words, part, cause, expected in known:
        if any(word in low for word in words):
            return Finding(part, expected, said, cause)
    return Finding("picture", "an answer", said, "refused")


def without_projector() -> Finding:
    """The server lists no vision among the model's capabilities."""
    return Finding("projector", "a projector", "no vision among the capabilities", "missing")


def place(
    *, devices: bool, need: Need | None, on_device_bytes: int | None, projector_backend: str | None, moved: str | None
) -> Finding | None:
    """Whether layers and projector were on a device while the picture was answered; None where nobody can say.

    Without a plan both are expected there wherever there is a device. `on_device_bytes` is size_vram of /api/ps,
    `projector_backend` the log's word ("CPU", "CUDA0"), `moved` the server's reason for the CPU.
    """
    if not devices:  # nothing was promised: none is here, or the server is another machine's
        return None if on_device_bytes is None else Finding("device", "any", "GPU" if on_device_bytes else "CPU")
    layers_wanted = need is None or need.layers.on_device > 0
    projector_wanted = need is None or (bool(need.devices) and need.settings.projector_device == "gpu")
    if layers_wanted and on_device_bytes == 0:
        return Finding("device", "GPU", "every layer on the CPU", "cpu")
    if projector_wanted and projector_backend == "CPU":
        why = f" ({moved})" if moved else ""
        return Finding("device", "GPU", f"the projector on the CPU{why}", "cpu")
    if on_device_bytes is None:
        return None
    return Finding("device", "GPU" if layers_wanted else "CPU", projector_backend or "GPU")


def why(finding: Finding) -> str:
    """One plain line for a part that failed, without the model's name."""
    said, expected = finding.observed, finding.expected
    by_cause: dict[Cause, str] = {
        "missing": f"the projector is missing: {said}",
        "mismatch": f"the projector belongs to another model: {said}",
        "refused": f"the server refused the picture: {said}",
        "context": f"the context is too small for the picture: {said}",
        "memory": f"the memory did not reach for the picture: {said}",
        "ignored": f"the picture was ignored: {said}, expected {expected}",
        "empty": "it answered nothing",
        "thoughts": f"it thought and never answered: {said} within the tokens allowed",
        "looping": f"it runs in a loop: {said}",
        "garbled": "the server could not parse what it wrote",
        "unseen": f'it says that it sees no picture: "{said}"',
        "undecided": f'it did not say how the shapes lie: expected "{expected}", it said "{said}"',
        "cpu": f"it ran on the CPU: {said}",
    }
    return by_cause.get(finding.cause) or f'the {finding.part} is wrong: expected "{expected}", it said "{said}"'


def next_step(finding: Finding, name: str) -> tuple[str, ...]:
    """What to type next for a part that failed."""
    show = f"qwenops show {name}"
    by_cause: dict[Cause, str] = {
        "missing": f"{show}     (a second FROM in its Modelfile names the mmproj file)",
        "mismatch": f"{show}     (take the mmproj file of this very model and size)",
        "context": f"qwenops update {name} --for ocr     (a larger num_ctx)",
        "memory": f"qwenops update {name}     (plans again with what is free now)",
        "ignored": f"{show}     (do its TEMPLATE or RENDERER and its projector belong to it?)",
        "unseen": f"{show}     (do its TEMPLATE or RENDERER and its projector belong to it?)",
        "thoughts": f"qwenops try {name} IMAGE --no-think     (a model that only thinks needs a larger --num-predict)",
        "looping": f"{show}     (sampling and quant: a loop at temperature 0 is often a broken or too small quant)",
        "empty": f"{show}     (TEMPLATE, RENDERER and stop words)",
        "garbled": f"{show}     (does its PARSER belong to it?)",
        "cpu": f"qwenops update {name}     (num_gpu must cover every layer or be absent)",
        "refused": "qwenops doctor",
    }
    return (by_cause.get(finding.cause, f"qwenops try {name} IMAGE     (does it read a page of yours?)"),)
