"""Quants of one model side by side: seconds a step, memory, and how near their pictures are to the reference's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import FAINT, grid
from qwenops.units import gib

if TYPE_CHECKING:
    from rich.console import RenderableType


def image_bench_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A row for each file, the reference first."""
    from rich.text import Text

    seeds = len(data["seeds"])
    count = "1 seed" if seeds == 1 else f"{seeds} seeds"
    yield Text(f"{data['title']} {data['size']}, {data['steps']} steps, {count}", style="bold")
    yield grid(
        ["file", "type", "GiB", "s a step", "RAM GiB", "PSNR dB", "SSIM"],
        [_row(row) for row in data["variants"]],
        left=2,
    )
    yield Text(
        "PSNR and SSIM of the pictures beside the reference's of the same seed, their means; the least in brackets",
        style=FAINT,
    )


def _row(row: Mapping[str, Any]) -> list[str]:
    peak = "·" if row["peak_host_bytes"] is None else gib(row["peak_host_bytes"])
    cells = [row["file"], row["quant"], gib(row["file_bytes"]), f"{row['median_step_seconds']:.2f}", peak]
    if row["is_reference"]:
        return [*cells, "reference", "reference"]
    noise = [value for value in row["psnr_db"] if value is not None]
    return [*cells, _spread(noise, 1) if noise else "equal", _spread(row["ssim"], 4)]


def _spread(values: Sequence[float], digits: int) -> str:
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{mean(values):.{digits}f} ({min(values):.{digits}f})"
