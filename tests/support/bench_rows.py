"""Rows as the benchmarks keep them, with figures that a test chooses: written and read through the real history."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from qwenops.history import Outcome
from qwenops.machine.types import Machine
from qwenops.model.read import model_key
from qwenops.model.types import Model

ENGINE = "llama-cpp-python 0.3.36"


def machine_entry(machine: Machine) -> dict[str, Any]:
    """The machine as benchmarks note it."""
    return {"devices": [asdict(d) for d in machine.devices], "host": asdict(machine.host)}


def spread(middle: float, share: float, n: int, seed: int) -> tuple[float, ...]:
    """`n` samples around a middle, `share` of it to both sides; the same for the same seed."""
    chance = random.Random(seed)
    return tuple(middle * (1 + chance.uniform(-share, share)) for _ in range(n))


def speed(
    model: Model,
    machine: Machine,
    *,
    tg: float,
    pp: float | None = None,
    run: str = "r1",
    noise: float = 0.01,
    n: int = 12,
    engine: str = ENGINE,
    busy: Sequence[Mapping[str, Any]] = (),
    **settings: Any,
) -> list[Outcome]:
    """Rows of `bench speed`: tg128, and pp512 where it is given."""
    device = "+".join(d.name for d in machine.devices) or "CPU"
    rates = {"tg128": tg, **({"pp512": pp} if pp else {})}
    return [
        Outcome(
            kind="speed",
            model=model.name,
            quant=model.quant,
            model_key=model_key(model),
            test=test,
            unit="t/s",
            run=run,
            engine=engine,
            device=device,
            settings={"batch": 2048, "ubatch": 512, "kv_type": "f16", "threads": 4, "label": model.quant, **settings},
            machine=machine_entry(machine),
            evidence={"busy": list(busy)},
            samples=spread(rate, noise, n, hash_of(model.quant + test)),
        )
        for test, rate in rates.items()
    ]


def quality(model: Model, kld: float, *, reference: str = "ref", chunks: int = 32, noise: float = 0.1) -> list[Outcome]:
    """Rows of `bench quality`: of the reference itself (kld 0 and reference "own") its perplexity alone."""
    own = reference == "own"
    settings = {
        "ctx": 512,
        "chunks": chunks,
        "kv_type": "f16",
        "reference_sha256": "ref",
        "text_sha256": "text",
        "model_sha256": "ref" if own else model.quant,
    }
    # the same text has the same hard passages for everyone: pairs differ less than chunks do
    hard = random.Random(0)
    passages = [hard.uniform(0.5, 1.5) for _ in range(chunks)]
    chance = random.Random(hash_of(model.quant))
    samples = {"ppl": tuple(30 * p for p in passages)}
    if not own:
        samples["kld"] = tuple(kld * p * (1 + chance.uniform(-noise, noise)) for p in passages)
        samples["same-top"] = tuple(1 - 3 * value for value in samples["kld"])
    return [
        Outcome(
            kind="quality",
            model=model.name,
            quant=model.quant,
            model_key=model_key(model),
            test=f"{name} c512",
            run="q1",
            engine=ENGINE,
            settings={**settings, "reference_sha256": "ref" if reference in ("ref", "own") else reference},
            samples=values,
        )
        for name, values in samples.items()
    ]


def reading(model: Model, cers: Sequence[float], *, image_tokens: int = 1024, engine: str = ENGINE) -> Outcome:
    """A row of `bench ocr`: a sample a page."""
    pages = tuple(
        {"page": f"p{n}", "kind": "clean", "cer": cer, "wer": cer, "tokens": 90, "seconds": 2.0}
        for n, cer in enumerate(cers)
    )
    return Outcome(
        kind="reading",
        model=model.name,
        quant=model.quant,
        model_key=model_key(model),
        test="ocr made",
        unit="page",
        run="o1",
        engine=engine,
        settings={"image_tokens": image_tokens, "temperature": 0.0, "seed": 1},
        samples=pages,
    )


def answers(model: Model, right: Sequence[bool], test: str = "vision count") -> Outcome:
    """A row of `bench vision`: a sample a question."""
    return Outcome(
        kind="vision",
        model=model.name,
        quant=model.quant,
        model_key=model_key(model),
        test=test,
        run="v1",
        engine=ENGINE,
        settings={"image_tokens": 1024},
        samples=tuple({"id": n, "right": one, "iou": None} for n, one in enumerate(right)),
    )


def hash_of(text: str) -> int:
    """A seed of a text, the same in every process."""
    import zlib

    return zlib.crc32(text.encode())
