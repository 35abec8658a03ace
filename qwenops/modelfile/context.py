"""What a template may say: the facts of the model and the numbers of the plan, in one flat value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from qwenops.errors import BadInput
from qwenops.model.types import Model
from qwenops.modelfile.families import (
    ChatFormat,
    Prompt,
    chat_format,
    family_of,
    has_thinkers,
    hints,
    mode_of,
    named_mode,
    prompts,
    requires,
    switches,
    system_of,
)
from qwenops.modelfile.sampling import Sampling, sampling
from qwenops.modelfile.types import Message, Mode
from qwenops.plan.profile import IMAGE_MARKERS, profile


@dataclass(frozen=True)
class RenderContext:
    """Everything a template can use. Every field is a variable of that name in the template.

    `layers` counts the output layer, as num_gpu does. `num_gpu` None leaves the choice to Ollama, which is the only
    other value that keeps a projector on the GPU; `projector_device` "cpu" says that it may go. `num_predict` None
    sets no end. `summary` are comment lines for the head of the file: what was planned, where the numbers come from.
    `base` is the name of a model that Ollama has already and that this one is made from, in place of files; `undone`
    are parameters of that one which the plan does not want.
    """

    name: str
    family: str
    mode: Mode
    model_paths: tuple[Path, ...]
    num_ctx: int
    projector_path: Path | None = None
    projector_device: Literal["gpu", "cpu"] = "gpu"
    num_gpu: int | None = None
    layers: int | None = None
    num_batch: int | None = None
    num_predict: int | None = None
    images: int = 0
    image_tokens: int = 0
    quant: str = ""
    sampling: Sampling = field(default_factory=lambda: Sampling({}))
    format: ChatFormat = field(default_factory=lambda: ChatFormat(None, None, ""))
    requires: str | None = None
    prompts: tuple[Prompt, ...] = ()
    hints: tuple[str, ...] = ()
    system: str | None = None
    license: str | None = None
    messages: tuple[Message, ...] = ()
    adapter_path: Path | None = None
    summary: tuple[str, ...] = ()
    base: str | None = None
    undone: Mapping[str, int] = field(default_factory=dict)

    def check(self) -> None:
        """Raise BadInput for what Ollama would take and then do something else with."""
        if not self.model_paths:
            raise BadInput("a Modelfile needs a model file")
        if self.num_ctx < 1:
            raise BadInput(f"num_ctx {self.num_ctx} is no context")
        if (
            self.projector_path is not None
            and self.projector_device == "gpu"
            and self.num_gpu is not None
            and self.layers is not None
            and self.num_gpu < self.layers
        ):
            raise BadInput(
                f"num_gpu {self.num_gpu} is below the {self.layers} layers of the model: Ollama would move the "
                "projector to the CPU",
                do=f"leave num_gpu away, or write {self.layers}",
            )


def context_for(
    model: Model,
    task: str,
    *,
    num_ctx: int,
    num_gpu: int | None = None,
    num_batch: int | None = None,
    num_predict: int | None = None,
    images: int = 0,
    image_tokens: int = 0,
    projector_device: Literal["gpu", "cpu"] = "gpu",
    mode: Mode | None = None,
    system: str | None = None,
    summary: Sequence[str] = (),
) -> RenderContext:
    """The context of a model for a task, from its header and the plan's numbers.

    Where models loop, an answer without an end is capped as the task's profile says. Raises BadInput for a mode that
    the model was not trained for.
    """
    family = family_of(model)
    own = named_mode(model)
    about = profile(task)
    if about.mode and own and own != about.mode and not switches(family):
        raise BadInput(
            f"{model.name} is the {own} model of its family, and {task} is for one that thinks",
            do=("--for analysis", "qwenops models thinking"),
        )
    if about.mode and mode and mode != about.mode:
        raise BadInput(f"--mode {mode} contradicts the task {task}", do="leave --mode out")
    if about.mode and not mode and mode_of(model) != about.mode and not has_thinkers(family):
        raise BadInput(
            f"{model.name} is not known to think before it answers, and {task} is for one that does",
            do=("--for analysis", f"--mode {about.mode}     (if it does)"),
        )
    mode = mode or about.mode
    if mode and own and mode != own and not switches(family):
        raise BadInput(
            f"{model.name} is the {own} model of its family; --mode is for one that can do both", do="leave --mode out"
        )
    mode = mode or mode_of(model)
    if num_predict is None:
        num_predict = about.longest_answer(num_ctx, images * (image_tokens + IMAGE_MARKERS))
    blocks = model.hparam("block_count")
    return RenderContext(
        name=model.name,
        family=family,
        mode=mode,
        model_paths=tuple(p.absolute() for p in model.shards),
        projector_path=model.projector.path.absolute() if model.projector else None,
        projector_device=projector_device,
        num_ctx=num_ctx,
        num_gpu=num_gpu,
        layers=blocks + 1 if isinstance(blocks, int) else None,
        num_batch=num_batch,
        num_predict=num_predict,
        images=images if model.projector or model.inline_vision else 0,
        image_tokens=image_tokens if model.projector or model.inline_vision else 0,
        quant=model.quant,
        sampling=sampling(family, mode, about.sampling),
        format=chat_format(family, mode, has_chat_template=bool(model.header.metadata.get("tokenizer.chat_template"))),
        requires=requires(family),
        prompts=prompts(family, task) if model.projector or model.inline_vision else (),
        hints=hints(family, task) if model.projector or model.inline_vision else (),
        system=system if system is not None else system_of(family, task),
        summary=tuple(summary),
    )
