"""The settings in force, each with where it was read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import FAINT, grid

if TYPE_CHECKING:
    from rich.console import RenderableType


def config_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A row a setting; then what is wrong in the file."""
    from rich.text import Text

    if data["settings"]:
        yield grid(["setting", "value", "read from"], [_row(row) for row in data["settings"]], left=3)
    elif not data["problems"]:
        what = "sets nothing" if data["exists"] else "is not there: every option has its own default"
        yield Text(f"{data['path']} {what}")
    for problem in data["problems"]:
        yield Text(problem, style="red")
    if not data["problems"] and not data["settings"]:
        yield Text("What can be set: qwenops config --all", style=FAINT)


def _row(row: Mapping[str, Any]) -> list[str]:
    source = row["source"] or "built in"
    if row["hides"]:
        source += f" (before {row['hides']})"
    return [row["name"], _shown(row["value"]), source]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
