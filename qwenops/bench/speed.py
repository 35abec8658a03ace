"""Speed of one or more variants through llama-cpp-python, each in its own child."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from qwenops.bench.types import ModelSpeed, Speed, SpeedSettings, SpeedTest
from qwenops.errors import BadInput
from qwenops.model.read import model_key
from qwenops.model.types import Model
from qwenops.worker import run

# Generous: a 27B at 1 token a second with the default tests takes 15 minutes on a CPU.
LIMIT_S = 3600.0
# ggml's type numbers (ggml/include/ggml.h, enum ggml_type).
_KV_NUMBERS = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 6,
    "q5_1": 7,
    "q8_0": 8,
    "iq4_nl": 20,
    "bf16": 30,
}

OnSample = Callable[[str, str, float], None]


def speed_tests(prompts: Sequence[int], generates: Sequence[int], depths: Sequence[int]) -> tuple[SpeedTest, ...]:
    """Every prompt size and every generation length at every depth; 0 leaves a sort out."""
    tests = [SpeedTest(prompt=p, generate=0, depth=d) for d in depths for p in prompts if p]
    tests += [SpeedTest(prompt=0, generate=g, depth=d) for d in depths for g in generates if g]
    if not tests:
        raise BadInput("there is nothing to measure", do="--prompt 512 or --generate 128")
    return tuple(tests)


def measure(
    model: Model,
    tests: Sequence[SpeedTest],
    settings: SpeedSettings,
    *,
    on_sample: OnSample | None = None,
    limit_s: float = LIMIT_S,
) -> ModelSpeed:
    """Load one model in a child and run every test on it.

    Raises PartMissing without llama-cpp-python, BadInput when it refuses the model, ChildDied when it aborts.
    """
    if model.inline_vision:
        raise BadInput(
            f"{model.source} carries its vision tensors inside, as only Ollama's own server reads them",
            do="benchmark a GGUF with a projector of its own, from the Hugging Face hub: qwenops models",
        )

    def heard(event: Mapping[str, Any]) -> None:
        if event["event"] == "sample" and on_sample:
            test = SpeedTest(event["prompt"], event["generate"], event["depth"])
            on_sample(model.quant, test.name, event["tps"])

    threads = settings.threads or physical_cores()
    kv = {"kv_type_number": _KV_NUMBERS[settings.kv_type]}
    request = {
        "file": str(model.path),
        "tests": [asdict(t) for t in tests],
        "settings": {**asdict(settings), "threads": threads, **kv},
    }
    answer = run("qwenops.bench.child:speed", request, limit_s=limit_s, on_event=heard)
    first_prompt = next((t.prompt for t in tests if t.prompt), 0)
    return ModelSpeed(
        model=model.name,
        model_key=model_key(model),
        file=str(model.path),
        quant=model.quant,
        file_bytes=model.file_bytes,
        speeds=tuple(Speed(SpeedTest(**row["test"]), tuple(row["samples"])) for row in answer["rows"]),
        load_seconds=answer["load_seconds"],
        first_token_seconds=tuple(answer["first_token_seconds"]),
        first_token_prompt=first_prompt,
        peak_host_bytes=answer["peak_host_bytes"],
        peak_device_bytes=answer["peak_device_bytes"],
        engine={**answer["engine"], "threads": threads},
    )


def physical_cores() -> int:
    import os

    import psutil

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or usable, usable))
