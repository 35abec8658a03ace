"""Benchmarks as results ready to print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from qwenops.bench.speed import OnSample, measure, speed_tests
from qwenops.bench.stats import is_noisy, summary
from qwenops.bench.types import ModelSpeed, SpeedSettings
from qwenops.history import Outcome
from qwenops.result import Result
from qwenops.setup.given import Given, must_be_here, variants


def bench_result(
    paths: tuple[Given, ...],
    *,
    prompt: Sequence[int] = (),
    generate: Sequence[int] = (),
    depth: Sequence[int] = (),
    repetitions: int = 5,
    threads: int | None = None,
    batch: int = 2048,
    ubatch: int = 512,
    kv: str = "f16",
    flash_attn: str = "auto",
    gpu_layers: int | None = None,
    offline: bool = False,
    on_sample: OnSample | None = None,
) -> Result:
    """Measure every variant in turn and keep the rows ("qwenops.bench/1")."""
    from qwenops import history
    from qwenops.machine.detect import detect

    must_be_here(paths, "bench")
    models = variants(paths, None, offline=offline)
    tests = speed_tests(prompt or (512,), generate or (128,), depth or (0,))
    settings = SpeedSettings(
        repetitions=repetitions,
        threads=threads,
        batch=batch,
        ubatch=ubatch,
        kv_type=kv,  # type: ignore[arg-type]
        flash_attn=flash_attn,  # type: ignore[arg-type]
        gpu_layers=gpu_layers,
    )
    machine = detect()
    measured = [measure(model, tests, settings, on_sample=on_sample) for model in models]
    machine_data = {"devices": [asdict(d) for d in machine.devices], "host": asdict(machine.host)}
    with history.open() as kept:
        kept.record_results(
            Outcome(
                kind="speed",
                model=one.model,
                quant=one.quant,
                model_key=one.model_key,
                test=speed.test.name,
                unit="t/s",
                engine=f"{one.engine['name']} {one.engine['version']}",
                settings={**asdict(settings), **one.engine},
                machine=machine_data,
                samples=speed.samples,
            )
            for one in measured
            for speed in one.speeds
        )
    notes = tuple(
        f"{one.quant} {speed.test.name}: the spread is wide, the machine was busy; close other programs and repeat"
        for one in measured
        for speed in one.speeds
        if is_noisy(speed.samples)
    )
    data = {
        "results": [row for one in measured for row in _rows(one)],
        "models": [_model_entry(one) for one in measured],
        "engine": dict(measured[0].engine),
        "settings": asdict(settings),
        "machine": machine_data,
    }
    return Result("qwenops.bench/1", data, notes=notes)


def _rows(one: ModelSpeed) -> list[dict[str, Any]]:
    return [{"model": one.model, "file": one.file, "quant": one.quant, **speed.as_data()} for speed in one.speeds]


def _model_entry(one: ModelSpeed) -> dict[str, Any]:
    return {
        "model": one.model,
        "file": one.file,
        "quant": one.quant,
        "file_bytes": one.file_bytes,
        "load_seconds": one.load_seconds,
        "first_token_seconds": summary(one.first_token_seconds) if one.first_token_seconds else None,
        "first_token_prompt": one.first_token_prompt,
        "peak_host_bytes": one.peak_host_bytes,
        "peak_device_bytes": one.peak_device_bytes,
    }
