"""Makes modelfiles/ again from the templates. With --check it only says what is stale, and exits 1 if anything is.

    python scripts/render_modelfiles.py [--check]

The files are examples: ready for the official downloads on cards of common sizes. `qwenops render` plans one for the
card that is here and the files that are there.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from qwenops.modelfile.context import OCR_ANSWER_TOKENS, RenderContext
from qwenops.modelfile.families import chat_format, hints, prompts, requires
from qwenops.modelfile.render import render
from qwenops.modelfile.sampling import sampling
from qwenops.modelfile.types import Mode
from qwenops.plan.profile import profile

FOLDER = Path(__file__).resolve().parent.parent / "modelfiles"


@dataclass(frozen=True)
class Source:
    """A model that can be downloaded: where, under which names, and the facts that its Modelfile needs."""

    title: str
    family: str
    mode: Mode
    repository: str
    file: str
    projector: str
    layers: int


@dataclass(frozen=True)
class Example:
    """One Modelfile: a model and quant, a task, a card, and the settings that go onto it."""

    source: str
    quant: str
    task: str
    card_gib: int
    num_ctx: int
    num_gpu: int | None = None

    @property
    def file_name(self) -> str:
        return f"{self.source}-{self.task}-{self.card_gib}gib.Modelfile"


SOURCES = {
    "qwen3-vl-4b-instruct": Source(
        *("Qwen3-VL-4B-Instruct", "qwen3-vl", "instruct", "Qwen/Qwen3-VL-4B-Instruct-GGUF"),
        *("Qwen3VL-4B-Instruct-{quant}.gguf", "mmproj-Qwen3VL-4B-Instruct-F16.gguf"),
        layers=37,
    ),
    "qwen3-vl-8b-instruct": Source(
        *("Qwen3-VL-8B-Instruct", "qwen3-vl", "instruct", "Qwen/Qwen3-VL-8B-Instruct-GGUF"),
        *("Qwen3VL-8B-Instruct-{quant}.gguf", "mmproj-Qwen3VL-8B-Instruct-F16.gguf"),
        layers=37,
    ),
    "qwen3-vl-8b-thinking": Source(
        *("Qwen3-VL-8B-Thinking", "qwen3-vl", "thinking", "Qwen/Qwen3-VL-8B-Thinking-GGUF"),
        *("Qwen3VL-8B-Thinking-{quant}.gguf", "mmproj-Qwen3VL-8B-Thinking-F16.gguf"),
        layers=37,
    ),
    "qwen2.5-vl-7b-instruct": Source(
        *("Qwen2.5-VL-7B-Instruct", "qwen2.5-vl", "instruct", "ggml-org/Qwen2.5-VL-7B-Instruct-GGUF"),
        *("Qwen2.5-VL-7B-Instruct-{quant}.gguf", "mmproj-Qwen2.5-VL-7B-Instruct-f16.gguf"),
        layers=29,
    ),
    "qwen3.5-9b": Source(
        *("Qwen3.5-9B", "qwen3.5", "thinking", "unsloth/Qwen3.5-9B-GGUF"),
        *("Qwen3.5-9B-{quant}.gguf", "mmproj-F16.gguf"),
        layers=33,
    ),
    "qwen3.6-27b": Source(
        *("Qwen3.6-27B", "qwen3.6", "thinking", "unsloth/Qwen3.6-27B-GGUF"),
        *("Qwen3.6-27B-{quant}.gguf", "mmproj-F16.gguf"),
        layers=65,
    ),
}

EXAMPLES = (
    Example("qwen3-vl-4b-instruct", "Q4_K_M", "chat", 8, 16384, num_gpu=37),
    Example("qwen3-vl-4b-instruct", "Q4_K_M", "ocr", 8, 17664, num_gpu=37),
    Example("qwen3-vl-8b-instruct", "Q4_K_M", "chat", 12, 16384),
    Example("qwen3-vl-8b-instruct", "Q4_K_M", "ocr", 12, 17664),
    Example("qwen3-vl-8b-instruct", "Q4_K_M", "analysis", 12, 16384),
    Example("qwen3-vl-8b-instruct", "Q4_K_M", "compare", 12, 16384),
    Example("qwen3-vl-8b-instruct", "Q8_0", "chat", 16, 32768, num_gpu=37),
    Example("qwen3-vl-8b-instruct", "Q8_0", "ocr", 16, 32768, num_gpu=37),
    Example("qwen3-vl-8b-instruct", "Q8_0", "chat", 24, 32768),
    Example("qwen3-vl-8b-instruct", "Q8_0", "ocr", 24, 32768),
    Example("qwen3-vl-8b-thinking", "Q4_K_M", "analysis", 12, 16384),
    Example("qwen2.5-vl-7b-instruct", "Q4_K_M", "ocr", 12, 17664),
    Example("qwen3.5-9b", "Q4_K_M", "analysis", 12, 32768),
    Example("qwen3.6-27b", "Q4_K_M", "chat", 24, 32768),
)


def text_of(example: Example) -> str:
    """The Modelfile of one example."""
    source, task = SOURCES[example.source], profile(example.task)
    return render(
        example.task,
        RenderContext(
            name=source.title,
            quant=example.quant,
            family=source.family,
            mode=source.mode,
            model_paths=(Path(source.file.format(quant=example.quant)),),
            projector_path=Path(source.projector),
            num_ctx=example.num_ctx,
            num_gpu=example.num_gpu,
            layers=source.layers,
            num_batch=512,
            num_predict=OCR_ANSWER_TOKENS if example.task == "ocr" else None,
            images=task.images,
            image_tokens=task.image_tokens,
            sampling=sampling(source.family, source.mode, example.task),
            format=chat_format(source.family, source.mode),
            requires=requires(source.family),
            prompts=prompts(source.family, example.task),
            hints=hints(source.family),
            summary=(
                f"An example for a card of {example.card_gib} GiB. Put both files of "
                f"huggingface.co/{source.repository} beside it; qwenops render plans one for your card.",
            ),
        ),
    )


def stale(folder: Path) -> list[str]:
    """What in the folder is not as the templates would make it, by name."""
    wanted = {e.file_name: text_of(e) for e in EXAMPLES}
    there = {p.name: p.read_text(encoding="utf-8") for p in folder.glob("*.Modelfile")}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when a file is stale")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    asked = parser.parse_args(arguments)
    changed = stale(asked.folder)
    if asked.check:
        for name in changed:
            print(f"stale: {asked.folder / name}")
        if changed:
            print("python scripts/render_modelfiles.py makes them again")
        return 1 if changed else 0
    asked.folder.mkdir(parents=True, exist_ok=True)
    wanted = {e.file_name: e for e in EXAMPLES}
    for name in changed:
        if name in wanted:
            (asked.folder / name).write_text(text_of(wanted[name]), encoding="utf-8")
        else:
            (asked.folder / name).unlink()
        print(f"{'made' if name in wanted else 'removed'}: {asked.folder / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
