"""A history as the benchmarks write it, made through the history's own API: what a report is drawn from.

The figures are made up, and are nobody's measurement; the rows have the form of real ones (history/rows.py).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qwenops.history import History, Outcome
from qwenops.machine.detect import detect
from qwenops.memory import ladder
from qwenops.memory.types import LoadSettings
from qwenops.model.read import model_key
from qwenops.model.types import Model

ENGINE = "llama-cpp-python 0.3.36"
DEVICE = "NVIDIA GeForce RTX 3060"
PAGE = "INVOICE 4271\nHeron & Sons\n12 pears   3.40\n7 plums    1.05\nTotal      4.45"
MISREAD = "INVOICE 4211\nHeron & Sons\n12 pears   3.40\nTotal      4.46"


def fill(kept: History, models: Sequence[Model], *, run: str = "made up") -> None:
    """Loads, speed, quality, reading and vision of every model, the better quants slower and closer to the first."""
    draw = random.Random(7)
    for number, model in enumerate(models):
        load(kept, model)
        kept.record_results(
            [
                *speed(model, number, draw),
                *quality(model, number, draw),
                reading(model, number, draw),
                *vision(model, number, draw),
            ]
        )


def load(kept: History, model: Model, *, off_bytes: int = 40_000) -> None:
    """A load as `verify` keeps it: the closed form's answer before, nearly the same after, the encoder at warm-up."""
    machine = detect("RTX 3060 12GB")
    settings = LoadSettings(num_ctx=8192)
    need = ladder.need(model, settings, machine.devices, host=machine.host, rung="closed form")
    device = need.devices[0]
    measured = {
        "devices": [
            {
                "name": device.name,
                **{
                    f"{part}_bytes": getattr(device, f"{part}_bytes")
                    for part in ("weights", "kv", "state", "projector", "draft", "overhead")
                },
                "compute_bytes": device.compute_bytes + off_bytes,
                "encoder_bytes": device.encoder_bytes // 3,
            }
        ],
        "host": {
            "weights_bytes": need.host.weights_bytes,
            "kv_bytes": 0,
            "state_bytes": 0,
            "compute_bytes": need.host.compute_bytes,
            "output_bytes": need.host.output_bytes,
            "encoder_bytes": need.host.encoder_bytes,
            "draft_bytes": 0,
        },
        "layers": {"on_device": need.layers.on_device, "total": need.layers.total},
        "flash_attn": True,
        "usage": [{"disturbed": False}],
    }
    entry = {"file": str(model.path), "architecture": model.architecture}
    row = kept.record_load(
        model_key(model), "settings", "ollama 0.32.14 llama-server b10434", f"{DEVICE} 12288 MiB", need.as_data(entry)
    )
    kept.finish_load(row, measured, ok=True)


def of(model: Model, **more: Any) -> Outcome:
    """An outcome of this model; `more` says what was measured."""
    shared = {"engine": ENGINE, "device": DEVICE, "run": "made up", "model_key": model_key(model)}
    return Outcome(model=model.name, quant=model.quant, **{**shared, **more})


def speed(model: Model, number: int, draw: random.Random) -> list[Outcome]:
    """Prompt and generation at four depths, and the first token."""
    rows = []
    for depth in (0, 4096, 16384, 32768):
        behind = f" @ d{depth}" if depth else ""
        slower = 1 / (1 + depth / 60000)
        for test, middle in (("pp512", 1300 + 40 * number), ("tg128", 34 + 5.5 * number)):
            samples = tuple(draw.gauss(middle * slower, middle * 0.006) for _ in range(9))
            rows.append(of(model, kind="speed", test=test + behind, unit="t/s", samples=samples))
    first = tuple(draw.gauss(0.41, 0.01) for _ in range(5))
    return [*rows, of(model, kind="speed", test="first-token pp512", unit="s", samples=first)]


def quality(model: Model, number: int, draw: random.Random) -> list[Outcome]:
    """What bench quality keeps of a variant; the first is its own reference."""
    divergence = None if number == 0 else 0.0021 * 2.1**number
    figures = {
        "ppl": 8.1 + 0.04 * number**2,
        "ppl_error": 0.09,
        "kld_mean": divergence,
        "kld_error": None if divergence is None else divergence * 0.04,
        "kld_median": None if divergence is None else divergence * 0.4,
        "kld_p99": None if divergence is None else divergence * 9,
        "same_top": None if divergence is None else 0.985 - 0.012 * number,
        "same_top_error": 0.002,
    }
    settings = {"ctx": 512, "chunks": 40, "kv_type": "f16", "reference_sha256": "r" * 64, "text_sha256": "t" * 64}
    samples = tuple(draw.gauss(8.1, 0.3) for _ in range(40))
    row = of(model, kind="quality", test="ppl c512", unit="perplexity", samples=samples)
    return [
        replace(row, settings={**settings, "figures": figures}, model_key=model_key(replace(model, projector=None)))
    ]


def reading(model: Model, number: int, draw: random.Random, **changes: Any) -> Outcome:
    """Forty pages of four kinds; the worse quants misread more of them."""
    pages = []
    for page in range(40):
        wrong = draw.random() < 0.12 + 0.07 * number
        error = round(draw.uniform(0.01, 0.12), 4) if wrong else 0.0
        pages.append(
            {
                "page": f"page-{page:02}",
                "kind": ("clean", "noise", "table", "receipt")[page % 4],
                "cer": error,
                "wer": round(error * 2.4, 4),
                "exact": None if page % 4 != 3 else not wrong,
                "empty": False,
                "loop": page == 17 and number > 2,
                "tokens": 260,
                "seconds": draw.gauss(2.1, 0.1),
                "truth": PAGE,
                "read": MISREAD if wrong else PAGE,
                **changes,
            }
        )
    settings = {"image_tokens": 1024, "temperature": 0.0, "seed": 1}
    return of(model, kind="reading", test="ocr made", unit="page", samples=tuple(pages), settings=settings)


def vision(model: Model, number: int, draw: random.Random) -> list[Outcome]:
    """Twenty-four questions of each sort."""
    rows = []
    for test, share in (("count", 0.9), ("relation", 0.8), ("ground", 0.7)):
        answers = tuple(
            {
                "id": str(i),
                "right": draw.random() < share - 0.05 * number,
                "iou": draw.uniform(0.4, 0.9) if test == "ground" else None,
                "asked": "?",
                "expected": "3",
                "answered": "3",
                "seconds": 1.2,
            }
            for i in range(24)
        )
        rows.append(of(model, kind="vision", test=f"vision {test}", unit="question", samples=answers))
    return rows
