"""A model and its projector in llama-cpp-python, in a child of its own for every cell."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from qwenops.bench.reading.engines.types import Failed, Heard, OnWords
from qwenops.bench.reading.types import Answer, Asking, Question
from qwenops.errors import BadInput, ChildDied
from qwenops.model.image_tokens import CELL_PIXELS, MARKER_TOKENS, MAX_TOKENS, MIN_TOKENS, image_tokens
from qwenops.model.types import Model
from qwenops.runtime.flags import image_limits
from qwenops.worker import run

_LIMIT_S: Final = 7 * 86400.0
_WORDS_TOKENS: Final = 512  # the question itself, with what a template puts around it
_STEP: Final = 256  # llama.cpp pads a context to this


class LibraryReader:
    """One model read with here. Raises BadInput for a model that has no projector of its own."""

    def __init__(self, model: Model, *, source: str, threads: int, gpu_layers: int | None = None) -> None:
        if model.inline_vision:
            raise BadInput(
                f"{model.source} carries its vision tensors inside, as only Ollama's own server reads them",
                do="--engine ollama, or a GGUF with a projector of its own",
            )
        if model.projector is None:
            raise BadInput(f"{model.source} has no projector: it cannot take a picture", do="--mmproj FILE")
        self.model, self.projector = model, model.projector
        self.source, self.label = source, model.quant
        self.threads, self.gpu_layers = threads, gpu_layers

    @cached_property
    def engine(self) -> Mapping[str, Any]:
        """The library with its build."""
        return run("qwenops.bench.quality.child:about_library", {}, limit_s=120)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """Both files' digests, the build, and where it runs."""
        from qwenops.bench.quality.run import model_digest
        from qwenops.ollama.digest import digest_file

        return {
            "model": model_digest(self.model),
            "projector": digest_file(self.projector.path).sha256,
            "engine": [self.engine["name"], self.engine["version"], self.engine["system"]],
            "gpu_layers": self.gpu_layers,
        }

    def limits(self, asking: Asking) -> tuple[int, int]:
        """The least and the most tokens of a picture: Ollama's minimum, unless less is the most."""
        most = asking.image_tokens or MAX_TOKENS
        least = image_limits(self.model.architecture, {})[0] or MIN_TOKENS
        return min(least, most), most

    def planned_tokens(self, asking: Asking, question: Question) -> int | None:
        """What the question's pictures take, without markers; None for a family whose cells are not known."""
        if self.model.architecture not in CELL_PIXELS:
            return None
        return sum(image_tokens(*size, self.model.architecture, *self.limits(asking)).tokens for size in question.sizes)

    def seen_as(self, asking: Asking, size: tuple[int, int]) -> tuple[int, int] | None:
        """The sides of a picture after the library's resize."""
        if self.model.architecture not in CELL_PIXELS:
            return None
        seen = image_tokens(*size, self.model.architecture, *self.limits(asking))
        return seen.width, seen.height

    def read(self, asking: Asking, questions: Sequence[Question], heard: Heard, on_words: OnWords) -> None:
        """Load once and ask everything. Raises ChildDied, naming the question, where the library aborts."""
        by_id = {question.id: question for question in questions}
        left = list(by_id)

        def on_event(event: Mapping[str, Any]) -> None:
            kind, question = event["event"], by_id.get(event.get("id", ""))
            if question is None:
                return
            if kind == "words":
                on_words(question, event["characters"])
                return
            left.remove(question.id)
            if kind == "failed":
                heard(question, Failed(event["why"], tuple(event["do"])))
            else:
                heard(question, Answer(**event["answer"]))

        with tempfile.TemporaryDirectory(prefix="qwenops-pages-") as folder:
            request = self._request(asking, questions, Path(folder))
            try:
                run("qwenops.bench.reading.engines.library_child:read", request, limit_s=_LIMIT_S, on_event=on_event)
            except ChildDied as error:
                where = f" at {left[0]}" if left and len(left) < len(by_id) else ""
                hint = " (out of memory?)" if "SIGKILL" in error.message else ""
                raise ChildDied(f"{error.message}{where}{hint}", do=error.do or "fewer --image-tokens") from None

    def close(self) -> None:
        """Nothing stays: every cell had a child of its own."""

    def _request(self, asking: Asking, questions: Sequence[Question], folder: Path) -> dict[str, Any]:
        least, most = self.limits(asking)
        largest = max((self.planned_tokens(asking, q) or most * len(q.pictures)) for q in questions)
        markers = MARKER_TOKENS * max(len(q.pictures) for q in questions)
        wanted = largest + markers + _WORDS_TOKENS + asking.most_tokens
        return {
            "file": str(self.model.path),
            "projector": str(self.projector.path),
            "threads": self.threads,
            "gpu_layers": self.gpu_layers,
            "ctx": -(-wanted // _STEP) * _STEP,
            "image_min": least,
            "image_max": most,
            "temperature": asking.temperature,
            "seed": asking.seed,
            "most_tokens": asking.most_tokens,
            "questions": [
                {"id": q.id, "prompt": q.prompt, "pictures": [str(p) for p in _written(q, n, folder)]}
                for n, q in enumerate(questions)
            ],
        }


def _written(question: Question, place: int, folder: Path) -> list[Path]:
    """The question's pictures as files, which a child can open."""
    paths = []
    for nth, picture in enumerate(question.pictures):
        path = folder / f"{place}-{nth}"
        path.write_bytes(picture)
        paths.append(path)
    return paths
