"""llama-cpp-python, a child for each variant: the loops and the defaults of llama-bench."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from qwenops.bench.engines import EngineName
from qwenops.bench.types import SpeedTest, Timing, Variant
from qwenops.errors import BadInput, ChildDied
from qwenops.model.quantizer import NUMBER
from qwenops.model.types import Model
from qwenops.worker import Worker, run

LIMIT_S = 3600.0
"""Generous: a 27B at 1 token a second with the default tests takes 15 minutes on a CPU."""
CHILD = "qwenops.bench.child"
# So that the last words of an abort are its reason, and not a debugger's.
_ENVIRONMENT = {"GGML_NO_BACKTRACE": "1"}


@dataclass(frozen=True)
class Library:
    """The engine; `child` is the module whose functions run in the child, which gets `environment` beside ours."""

    child: str = CHILD
    environment: Mapping[str, str] = field(default_factory=dict)
    limit_s: float = LIMIT_S
    name: EngineName = "llama-cpp-python"
    can_stay: bool = True

    def cannot(self, variant: Variant, test: SpeedTest) -> str:
        """Pictures need a projector in a file of its own."""
        if test.image and (variant.model is None or variant.model.projector is None):
            return "it has no projector"
        return ""

    def open(self, variant: Variant, tests: Sequence[SpeedTest]) -> LibrarySession:
        """Load in a child. Raises PartMissing without the library, BadInput when it refuses the model, ChildDied."""
        model = _file_of(variant)
        settings = _settings(variant)
        request = {
            "file": str(model.path),
            "projector": str(model.projector.path) if model.projector else None,
            "tests": [{**asdict(test), "name": test.name} for test in tests],
            "settings": settings,
        }
        worker = Worker(env={**_ENVIRONMENT, **self.environment})
        try:
            opened = _ask(worker, f"{self.child}:open_model", request, self.limit_s)
        except BaseException:
            worker.close()
            raise
        return LibrarySession(self, worker, opened, settings["threads"])

    def time_load(self, variant: Variant, test: SpeedTest) -> Timing:
        """One load in a child of its own, of weights alone."""
        request = {
            "files": [str(path) for path in _file_of(variant).shards],
            "cold": test.load == "cold",
            "settings": _settings(variant),
        }
        answer = run(f"{self.child}:time_load", request, limit_s=self.limit_s, env=_ENVIRONMENT)
        return Timing({test.name: answer["seconds"]}, answer["began"], answer["ended"], 0)


class LibrarySession:
    """A model that is open in a child."""

    def __init__(self, engine: Library, worker: Worker, opened: Mapping[str, Any], threads: int) -> None:
        self._engine, self._worker = engine, worker
        self.load_seconds: float = opened["load_seconds"]
        self.idle_host_bytes: int = opened["idle_host_bytes"]
        self.info: Mapping[str, Any] = {
            "name": engine.name,
            "version": opened["version"],
            "gpu": opened["gpu"],
            "devices": opened["devices"],
            "threads": threads,
        }

    def processes(self) -> frozenset[int]:
        """The child."""
        return frozenset({self._worker.pid})

    def time(self, test: SpeedTest) -> Timing:
        """One repetition in the child."""
        request = {"test": {**asdict(test), "name": test.name}}
        return Timing(**_ask(self._worker, f"{self._engine.child}:time_test", request, self._engine.limit_s))

    def close(self) -> None:
        """End the child, and with it what it holds."""
        self._worker.close()


def physical_cores() -> int:
    """The cores that this process may use, each counted once however many threads it runs."""
    import os

    import psutil

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or usable, usable))


def _ask(worker: Worker, function: str, request: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
    try:
        return worker.ask(function, request, limit_s=limit_s)
    except ChildDied as error:
        if "SIGKILL" in error.message and not error.do:
            raise ChildDied(f"{error.message} (out of memory?)", do="a smaller --depth, --prompt or --batch") from None
        raise


def _settings(variant: Variant) -> dict[str, Any]:
    settings = variant.settings
    return {
        **asdict(settings),
        "threads": settings.threads or physical_cores(),
        "kv_type_number": NUMBER[settings.kv_type.upper()],
    }


def _file_of(variant: Variant) -> Model:
    model = variant.model
    if model is None:
        raise BadInput(f"the files of {variant.registered} cannot be read from here", do="--engine ollama")
    if model.inline_vision:
        raise BadInput(
            f"{model.source} carries its vision tensors inside, as only Ollama's own server reads them",
            do=("--engine ollama", "or a GGUF with a projector of its own, from the Hugging Face hub: qwenops models"),
        )
    return model
