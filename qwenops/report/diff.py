"""Two models side by side: what differs, in words and MiB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import grid
from qwenops.units import human

if TYPE_CHECKING:
    from rich.console import RenderableType

_LONGEST = 32


def diff_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Only what differs, and in a line what does not."""
    from rich.text import Text

    different = [r for r in data["rows"] if not r["same"]]
    if not different:
        yield Text(f"{data['first']} and {data['second']} are the same but for their names.")
        return
    yield grid(
        ["", data["first"], data["second"]],
        [[r["what"], _value(r, "first"), _value(r, "second")] for r in different],
        left=3,
    )
    alike = [r["what"] for r in data["rows"] if r["same"]]
    if alike:
        yield Text(f"the same: {', '.join(alike)}", style="dim")
    if not data["memory_known"]:
        yield Text("what both need is not known: one of them is no registered model, or out of reach", style="dim")


def _value(row: Mapping[str, Any], side: str) -> str:
    value = row[side]
    if value is None:
        return "·"
    if row["kind"] == "memory":
        return human(value)
    text = " ".join(str(value).split())
    if row["kind"] == "file" and text.startswith("sha256"):
        return text[:19]
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
