"""The quality table: a row a variant beside its reference, the error beside the value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import grid
from qwenops.units import gib

if TYPE_CHECKING:
    from rich.console import RenderableType


def quality_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The reference, then every variant; what failed, with its reason, below the table."""
    from rich.text import Text

    reference, rows = data["reference"], data["results"]
    with_kv = any(row["kv_type"] != "f16" for row in rows)
    yield Text(reference["name"], style="bold")
    header = ["quant", *(["KV"] if with_kv else []), "GiB", "PPL", "KLD", "median", "99 %", "same top", "t/s"]
    table = [_row(reference, with_kv, " (ref)"), *(_row(row, with_kv, "") for row in rows)]
    yield grid(header, table, left=1 + with_kv)
    for row in rows:
        if row["status"] == "failed":
            yield Text(f"{_name(row)}: {row['error']}", style="red")
            for step in row["do"]:
                yield Text(f"  {step}")
        elif row["status"] == "stopped":
            yield Text(f"{_name(row)}: {row['chunks']} of {reference['chunks']} chunks")
    yield Text(
        f"{reference['chunks']} chunks of {data['settings']['ctx']} tokens of {data['text']['name']}, "
        f"{reference['scored']} scored; ± is the standard error",
        style="dim",
    )
    engine = data["engine"]
    build = "GPU build" if engine["gpu"] else "CPU build"
    yield Text(f"{engine['name']} {engine['version']} ({build}), {data['settings']['threads']} threads", style="dim")


def _row(row: Mapping[str, Any], with_kv: bool, mark: str) -> list[str]:
    size = gib(row["file_bytes"]) if row["file_bytes"] else "·"
    return [
        _name(row) + mark,
        *([row["kv_type"]] if with_kv else []),
        size,
        _beside(row["ppl"], row["ppl_error"], 3, 2),
        _beside(row["kld_mean"], row["kld_error"], 4, 4),
        _plain(row["kld_median"]),
        _plain(row["kld_p99"]),
        f"{row['same_top']:.1%}".replace("%", " %") if row["same_top"] is not None else "·",
        f"{row['tokens_per_second']:.0f}" if row["tokens_per_second"] else "·",
    ]


def _name(row: Mapping[str, Any]) -> str:
    return str(row["quant"] or row["model"].rsplit("/", 1)[-1])


def _beside(value: float | None, error: float | None, digits: int, error_digits: int) -> str:
    if value is None:
        return "·"
    return f"{value:.{digits}f} ±{error or 0.0:.{error_digits}f}"


def _plain(value: float | None) -> str:
    return "·" if value is None else f"{value:.4f}"
