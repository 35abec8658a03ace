"""The history as results ready to print: what is in it, and what is cleared of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qwenops.history import LoadRow, ResultKind, ResultRow
from qwenops.result import Result

_READ = {"reading": "cer", "vision": "right"}
"""The figure of a sample that is an object: what its row is summed up by."""


def history_result(
    *, limit: int, kind: ResultKind | None = None, model: str | None = None, test: str | None = None
) -> Result:
    """The newest loads and benchmark rows ("qwenops.history/1").

    `model` is a part of the name with its quant, in any case; with a kind or a test loads are left out. Pictures of
    `verify` are no benchmarks: they are shown when they are asked for by their kind.
    """
    from qwenops import history

    with history.open() as kept:
        loads = [] if kind or test else [_load_entry(row) for row in kept.loads()]
        rows = [row for row in kept.results(kind=kind, test=test) if kind or row.kind != "sight"]
        path = str(kept.path)
    results = [_result_entry(row) for row in sorted(rows, key=lambda row: (row.created, row.id))]

    def newest(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        wanted = [entry for entry in reversed(entries) if (model or "").lower() in entry["model"].lower()]
        return wanted[:limit]

    asked = {"kind": kind, "model": model, "test": test}
    data = {"loads": newest(loads), "results": newest(results), "path": path, "asked": asked}
    return Result("qwenops.history/1", data)


def clear_result(*, dry_run: bool) -> Result:
    """Forget plans, loads and results; what qwenops made stays known ("qwenops.history-clear/1")."""
    from qwenops import history

    with history.open() as kept:
        gone = kept.count() if dry_run else kept.clear()
        data = {"path": str(kept.path), "forgotten": gone, "dry_run": dry_run}
    return Result("qwenops.history-clear/1", data)


def figures_of(row: ResultRow) -> list[float]:
    """A figure a sample: itself, or of a page its character error rate, of a question 1 where it was right."""
    name = _READ.get(row.kind)
    found = [sample.get(name) if isinstance(sample, Mapping) and name else sample for sample in row.samples]
    return [float(value) for value in found if isinstance(value, (bool, int, float))]


def unit_of(row: ResultRow) -> str:
    """What the figures are counted in."""
    return {"reading": "CER", "vision": "share right"}.get(row.kind, row.unit)


def summed_up(row: ResultRow) -> dict[str, Any]:
    """Mean, spread, median and samples; None where a row has no figures."""
    from qwenops.bench.statistics import summary

    figures = figures_of(row)
    words = ("mean", "sd", "median", "min", "max")
    found = summary(figures, with_interval=False) if figures else dict.fromkeys(words)
    return {**{word: found[word] for word in words}, "samples": list(row.samples)}


def device_total(measured: Mapping[str, Any] | None) -> int | None:
    """The measured buffers of all devices, in bytes."""
    if not measured:
        return None
    return sum(int(v) for d in measured.get("devices", ()) for k, v in d.items() if k.endswith("_bytes"))


def _load_entry(row: LoadRow) -> dict[str, Any]:
    return {
        "created": row.created.isoformat(timespec="seconds"),
        "model": _loaded_name(row),
        "device": row.device,
        "runtime_build": row.runtime_build,
        "predicted_bytes": row.predicted.get("total_device_bytes"),
        "measured_bytes": device_total(row.measured),
        "predicted": dict(row.predicted),
        "measured": dict(row.measured) if row.measured else None,
        "ok": bool(row.ok),
    }


def _result_entry(row: ResultRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "created": row.created.isoformat(timespec="seconds"),
        "kind": row.kind,
        "model": f"{row.model} {row.quant}".strip(),
        "test": row.test,
        **summed_up(row),
        "unit": unit_of(row),
        "run": row.run,
        "engine": row.engine,
        "device": row.device,
        "model_key": row.model_key,
        "settings": dict(row.settings),
    }


def _loaded_name(row: LoadRow) -> str:
    file = (row.predicted.get("model") or {}).get("file")
    return Path(file).stem if file else row.model_key[:12]
