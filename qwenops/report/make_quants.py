"""The files that were made of a model, or would be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenops.report.need import headline
from qwenops.report.tables import grid
from qwenops.units import gib, human

if TYPE_CHECKING:
    from rich.console import RenderableType


def make_quants_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A row a file, then the tensors of each by type."""
    from rich.text import Text

    yield Text(headline(data["source"]), style="bold")
    rows = [
        [
            file["quant"],
            f"{file['file_bytes'] or file['predicted_bytes']:,}".replace(",", " "),
            gib(file["file_bytes"] or file["predicted_bytes"]),
            f"{file['bits_per_weight']:.2f}",
            f"{file['seconds']:.1f}" if file["seconds"] is not None else "·",
        ]
        for file in data["files"]
    ]
    yield grid(["quant", "file bytes", "GiB", "bits", "s"], rows)
    for file in data["files"]:
        types = ", ".join(f"{count} {name}" for name, count in file["types"].items())
        yield Text(f"{Path(file['file']).name}: {types}", style="dim")
    made = "would take" if data["dry_run"] else "written to"
    where = f"{human(data['free_bytes'])} free at {data['folder']}" if data["dry_run"] else data["folder"]
    yield Text(f"{human(data['total_bytes'])} {made}: {where}" if data["dry_run"] else f"{made} {where}")
