"""The linter's look at what the words do to the model: memory, context, the chat template, the projector's place."""

from __future__ import annotations

from collections.abc import Iterator

from qwenops.errors import BadInput
from qwenops.model.image_tokens import MARKER_TOKENS
from qwenops.modelfile.lint_files import LintFacts
from qwenops.modelfile.parameters import typed
from qwenops.modelfile.types import Command, Finding, Modelfile

DEFAULT_NUM_CTX = 4096
"""Ollama's own num_ctx below 24 GiB of VRAM (server/routes.go, 0.32.14)."""
ROOM_FOR_TEXT = 512
"""The least that a question and its answer take beside the images."""
SEEING = ("qwen2vl", "qwen25vl", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe")
"""Architectures of which every model was made to see, given its projector."""


def check_model(modelfile: Modelfile, facts: LintFacts) -> Iterator[Finding]:
    """Every finding that needs the model's facts; what is unknown is not guessed at."""
    yield from _check_num_gpu(modelfile, facts)
    yield from _check_num_ctx(modelfile, facts)
    yield from _check_num_predict(modelfile)
    yield from _check_template(modelfile, facts)
    yield from _check_sight(modelfile, facts)


def _check_num_gpu(modelfile: Modelfile, facts: LintFacts) -> Iterator[Finding]:
    command, num_gpu = _number(modelfile, "num_gpu")
    if command is None or num_gpu is None or facts.layers is None or not 0 <= num_gpu < facts.layers:
        return
    do = f"write {facts.layers}, or leave num_gpu away"
    if num_gpu == 0:
        where = "the model and its projector run" if facts.sees else "the model runs"
        yield Finding(command.line, "warning", "cpu-only", f"num_gpu 0: {where} on the CPU", do)
    elif facts.sees:
        message = f"num_gpu {num_gpu} is below the model's {facts.layers} layers: Ollama moves the projector to the CPU"
        yield Finding(command.line, "error", "projector-on-cpu", message, do)
    else:
        message = f"num_gpu {num_gpu} leaves {facts.layers - num_gpu} of {facts.layers} layers on the CPU"
        yield Finding(command.line, "warning", "layers-on-cpu", message, do)


def _check_num_ctx(modelfile: Modelfile, facts: LintFacts) -> Iterator[Finding]:
    command, num_ctx = _number(modelfile, "num_ctx")
    images = max(facts.images, 1)
    floor = images * (facts.image_tokens + MARKER_TOKENS)
    what = f"{images} image{'s' if images > 1 else ''} of {facts.image_tokens} tokens and {MARKER_TOKENS} markers"
    if command is None:
        if facts.sees:
            line = modelfile.all("model")[0].line
            message = (
                f"no num_ctx: Ollama takes {DEFAULT_NUM_CTX} below 24 GiB of VRAM, and {what} are {floor}"
                if floor > DEFAULT_NUM_CTX
                else "no num_ctx: Ollama picks it by the card, not by the images"
            )
            yield Finding(line, "error" if floor > DEFAULT_NUM_CTX else "warning", "no-num-ctx", message, _write(floor))
        return
    if num_ctx is None:
        return
    if facts.sees and num_ctx < floor:
        message = f"num_ctx {num_ctx} is too small: {what} are {floor}"
        yield Finding(command.line, "error", "num-ctx-too-small", message, _write(floor))
    elif facts.sees and num_ctx < floor + ROOM_FOR_TEXT:
        message = f"num_ctx {num_ctx} leaves {num_ctx - floor} tokens for the question and the answer beside {what}"
        yield Finding(command.line, "warning", "num-ctx-tight", message, _write(floor))
    if facts.trained_ctx and num_ctx > facts.trained_ctx:
        message = (
            f"num_ctx {num_ctx} is above the {facts.trained_ctx} the model was trained for: Ollama lowers it silently"
        )
        yield Finding(command.line, "warning", "num-ctx-above-trained", message, f"write {facts.trained_ctx}")


def _check_num_predict(modelfile: Modelfile) -> Iterator[Finding]:
    _, num_ctx = _number(modelfile, "num_ctx")
    command, num_predict = _number(modelfile, "num_predict")
    if command and num_ctx and num_predict and num_predict >= num_ctx:
        message = f"num_predict {num_predict} fills num_ctx {num_ctx}: the question would be shifted out of the context"
        yield Finding(command.line, "warning", "num-predict-fills-context", message, "write less, or a larger num_ctx")


def _check_template(modelfile: Modelfile, facts: LintFacts) -> Iterator[Finding]:
    template = modelfile.last("template")
    ollama_renders = modelfile.last("renderer") or modelfile.last("parser")
    if template and template.args and facts.has_chat_template and not ollama_renders:
        message = "TEMPLATE on a model with its own chat template: tools and thinking that the template lacks are lost"
        yield Finding(template.line, "warning", "template-hides-own", message, "take the TEMPLATE out")
    if facts.has_chat_template is False and not (template and template.args) and not ollama_renders:
        line = modelfile.all("model")[0].line
        message = "the model has no chat template and the Modelfile none for it: prompts go in as they are"
        yield Finding(line, "warning", "no-chat-template", message, "add the TEMPLATE of the model's family")


def _check_sight(modelfile: Modelfile, facts: LintFacts) -> Iterator[Finding]:
    if facts.sees is False and facts.architecture in SEEING:
        line = modelfile.all("model")[0].line
        message = f"a {facts.architecture} model without its projector: it will refuse images"
        yield Finding(line, "warning", "no-projector", message, "add a FROM with the model's mmproj file")
    adapter = modelfile.last("adapter")
    if adapter and facts.sees:
        message = "ADAPTER beside a projector: only the text model is adapted, and nothing checks that it still sees"
        yield Finding(adapter.line, "warning", "adapter-with-vision", message, "try it with an image")


def _number(modelfile: Modelfile, name: str) -> tuple[Command | None, int | None]:
    """The command that Ollama goes by, and its value; the value is None when it is not an integer."""
    command = modelfile.last(name)
    if command is None:
        return None, None
    try:
        value = typed(name, command.args)
    except BadInput:
        return command, None
    return command, value if isinstance(value, int) else None


def _write(floor: int) -> str:
    rounded = -(-(floor + 2 * ROOM_FOR_TEXT) // 1024) * 1024
    return f"write PARAMETER num_ctx {rounded} or more"
