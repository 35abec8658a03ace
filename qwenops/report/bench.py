"""Benchmark tables: one row a model and test, the spread beside the value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import grid
from qwenops.units import gib, human

if TYPE_CHECKING:
    from rich.console import RenderableType


def bench_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The speed table, then load time, first token and memory of each model."""
    from rich.text import Text

    rows = []
    for r in data["results"]:
        speed = r["tokens_per_second"]
        spread = f"{speed['mean']:.2f} ±{speed['sd']:.2f}"
        rows.append(
            [r["quant"], r["test"], spread, f"{speed['median']:.2f}", f"{speed['min']:.2f} to {speed['max']:.2f}"]
        )
    yield Text(", ".join(dict.fromkeys(m["model"] for m in data["models"])), style="bold")
    yield grid(["quant", "test", "t/s", "median", "spread"], rows, left=2)
    yield Text("")
    yield grid(
        ["quant", "file GiB", "load s", "first token s", "peak RAM", "peak device"],
        [_model_row(m) for m in data["models"]],
    )
    engine = data["engine"]
    where = "GPU build" if engine["gpu"] else "CPU build"
    yield Text(
        f"{engine['name']} {engine['version']} ({where}), {engine['threads']} threads, "
        f"{data['settings']['repetitions']} repetitions",
        style="dim",
    )


def _model_row(model: Mapping[str, Any]) -> list[str]:
    first = model["first_token_seconds"]
    device = model["peak_device_bytes"]
    return [
        model["quant"],
        gib(model["file_bytes"]),
        f"{model['load_seconds']:.2f}",
        f"{first['median']:.2f}" if first else "·",
        human(model["peak_host_bytes"]),
        human(device) if device is not None else "not measured",
    ]
