"""Memory as it was predicted beside how it came, part by part, from the loads and the benchmarks of the history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qwenops.report.plain import whole
from qwenops.setup.report_names import Names

if TYPE_CHECKING:
    from qwenops.history import LoadRow, ResultRow

PARTS = ("weights", "kv", "state", "compute", "projector", "encoder", "output", "draft", "overhead")
_NOT_COMPARED = ("encoder", "overhead")
"""A load shows the encoder at its warm-up picture, and is predicted at the largest; overhead is in no buffer."""


def memory_rows(names: Names, loads: Sequence[LoadRow], results: Sequence[ResultRow]) -> list[dict[str, Any]]:
    """A row a variant, settings and place: {label, where, num_ctx, kv_type, parts, compared, ...}, newest of each."""
    names = names.within(
        [*(names.of_load(load).name for load in loads), *(r.model for r in results if r.evidence.get("memory"))]
    )
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for load in loads:
        for row in _of_load(names, load):
            key = (row["label"], row["where"], row["num_ctx"], row["kv_type"], row["flash_attn"], row["image_tokens"])
            rows.pop(key, None)
            rows[key] = row
    for result in results:
        for peak in _of_bench(names, result):
            of_variant = (peak["label"], peak["where"], peak["num_ctx"], peak["kv_type"])
            rows.pop(of_variant, None)
            rows[of_variant] = peak
    return list(rows.values())


def _of_load(names: Names, load: LoadRow) -> Iterator[dict[str, Any]]:
    planned, measured = load.predicted, load.measured or {}
    try:
        settings = planned["settings"]
        shared = {
            "label": names.label((named := names.of_load(load)).name, named.quant),
            "model": whole(named.name),
            "source": "load",
            "test": None,
            "num_ctx": settings["num_ctx"],
            "kv_type": settings["kv_type_k"],
            "flash_attn": settings["flash_attn"],
            "image_tokens": settings["image_tokens"],
            "runtime": load.runtime_build,
            "created": load.created.isoformat(timespec="seconds"),
            "rung": planned["rung"],
        }
        counted = any(not usage.get("disturbed") for usage in measured.get("usage") or ())
        devices = list(zip(planned["devices"], measured["devices"], strict=False))
        for number, (before, after) in enumerate(devices):
            where = load.device.split("; ")[number] if len(devices) > 1 else load.device
            yield {**shared, "where": where, **_beside(before, after, overhead_seen=counted)}
        if not devices:
            yield {**shared, "where": "host", **_beside(planned["host"], measured["host"], overhead_seen=False)}
    except (KeyError, TypeError, AttributeError):
        return  # a row of an older form


def _beside(before: Mapping[str, Any], after: Mapping[str, Any], *, overhead_seen: bool) -> dict[str, Any]:
    parts = []
    for part in PARTS:
        key = f"{part}_bytes"
        planned, seen = int(before.get(key, 0)), int(after.get(key, 0))
        unseen = part == "overhead" and not seen and not overhead_seen
        if planned or seen:
            parts.append({"part": part, "predicted_bytes": planned, "measured_bytes": None if unseen else seen})
    compared = [p for p in parts if p["part"] not in _NOT_COMPARED]
    return {
        "parts": parts,
        "predicted_bytes": sum(p["predicted_bytes"] for p in parts),
        "measured_bytes": sum(p["measured_bytes"] or 0 for p in parts),
        "compared": {
            "predicted_bytes": sum(p["predicted_bytes"] for p in compared),
            "measured_bytes": sum(p["measured_bytes"] or 0 for p in compared),
        },
    }


def _of_bench(names: Names, result: ResultRow) -> Iterator[dict[str, Any]]:
    """The most that a benchmark held beside what was planned for it, a row a device; of the host where there is none.

    On the host what the program held before the model came is taken off, and untouched pages are not held at all.
    """
    memory = result.evidence.get("memory") or {}
    planned = memory.get("planned")
    if not isinstance(planned, Mapping):
        return
    shared = {
        "label": names.label(result.model, result.quant),
        "model": whole(result.model),
        "source": "bench",
        "test": None,
        "num_ctx": result.settings.get("num_ctx"),
        "kv_type": result.settings.get("kv_type", "f16"),
        "flash_attn": result.settings.get("flash_attn", "auto"),
        "image_tokens": None,
        "runtime": result.engine,
        "created": result.created.isoformat(timespec="seconds"),
        "rung": planned.get("rung"),
        "compared": None,
    }
    try:
        devices = memory.get("peak_device_bytes") or {}
        for name, peak in devices.items():
            yield {**shared, **_peak(name, planned["devices"][name], int(peak))}
        if not planned["devices"] and isinstance(memory.get("peak_host_bytes"), int):
            held = memory["peak_host_bytes"] - (memory.get("idle_host_bytes") or 0)
            yield {**shared, **_peak("host", planned["host"], held)}
    except (KeyError, TypeError, ValueError, AttributeError):
        return  # a row of another form


def _peak(where: str, planned: Mapping[str, Any], peak: int) -> dict[str, Any]:
    sizes = {part: int(planned.get(f"{part}_bytes", 0)) for part in PARTS}
    return {
        "where": where,
        "parts": [
            {"part": part, "predicted_bytes": size, "measured_bytes": None} for part, size in sizes.items() if size
        ],
        "predicted_bytes": sum(sizes.values()),
        "measured_bytes": peak,
    }
