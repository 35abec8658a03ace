"""The history on a terminal: loads with what was predicted, and every benchmark row in one table with its unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import FAINT, grid
from qwenops.units import human

if TYPE_CHECKING:
    from rich.console import RenderableType


def history_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What was loaded and measured here, newest first."""
    from rich.text import Text

    if not (data["loads"] or data["results"]):
        yield Text(_nothing(data["asked"]))
        return
    if data["loads"]:
        yield Text("Loads: predicted beside measured", style="bold")
        yield grid(["when", "model", "device", "predicted MiB", "measured MiB", ""], map(_load, data["loads"]), left=3)
        yield Text("")
    if data["results"]:
        yield Text("Benchmarks", style="bold")
        yield grid(
            ["when", "kind", "model", "test", "median", "±", "unit", "n", "run"],
            map(_result, data["results"]),
            left=4,
        )
        yield Text("± is the standard deviation of the n samples; all of them: qwenops history --json", style=FAINT)
    yield Text(f"kept in {data['path']}", style=FAINT)


def _nothing(asked: Mapping[str, Any]) -> str:
    if any(asked.values()):
        words = ", ".join(f"{name} {value}" for name, value in asked.items() if value)
        return f"Nothing of {words} was measured here: qwenops history shows what was."
    return "Nothing was loaded or measured yet: qwenops up MODEL, qwenops bench speed MODEL"


def _load(row: Mapping[str, Any]) -> list[str]:
    return [
        _when(row),
        row["model"],
        row["device"],
        f"{row['predicted_bytes'] / 1024**2:.0f}" if row["predicted_bytes"] else "·",
        f"{row['measured_bytes'] / 1024**2:.0f}" if row["measured_bytes"] else "·",
        "ok" if row["ok"] else "failed",
    ]


def _result(row: Mapping[str, Any]) -> list[str]:
    digits = 4 if row["median"] is None or abs(_middle(row)) < 1 else 2
    spread = "·" if row["sd"] is None or len(row["samples"]) < 2 else f"±{row['sd']:.{digits}f}"
    middle = "·" if row["median"] is None else f"{_middle(row):.{digits}f}"
    run = row["run"][:8] or "·"
    return [_when(row), row["kind"], row["model"], row["test"], middle, spread, row["unit"], _count(row), run]


def _middle(row: Mapping[str, Any]) -> float:
    """The median of speeds; of rates the mean, since most pages are read without an error."""
    return float(row["mean"] if row["kind"] in ("reading", "vision") else row["median"])


def _count(row: Mapping[str, Any]) -> str:
    return str(len(row["samples"]))


def _when(row: Mapping[str, Any]) -> str:
    return str(row["created"][:16]).replace("T", " ")


def export_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What was written, and how large it is."""
    from rich.text import Text

    yield Text(f"{data['rows']} rows, {human(data['file_bytes'])}: {data['file']}")


def import_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What came in, and what was there already."""
    from rich.text import Text

    known = f", {data['known']} were there already" if data["known"] else ""
    yield Text(f"{data['new']} rows taken in{known}")
    yield Text(f"kept in {data['path']}", style=FAINT)


def clear_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """How much is forgotten."""
    from rich.text import Text

    gone = ", ".join(f"{count} {table}" for table, count in data["forgotten"].items())
    yield Text(f"{'Would be forgotten' if data['dry_run'] else 'Forgotten'}: {gone}")
    yield Text(f"of {data['path']}; what qwenops made stays known", style=FAINT)
