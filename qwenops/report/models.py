"""Registered models: what was handed over, what is there, and whether its files are still true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import facts, grid
from qwenops.units import gib, human

if TYPE_CHECKING:
    from rich.console import RenderableType


def register_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """How a model was handed over, and how to take it back."""
    from rich.text import Text

    if data["dry_run"]:
        yield Text(f"Would register {data['name']}: {human(data['bytes_linked'])} {data['how']}", style="bold")
        yield Text("Nothing was changed.")
        return
    yield Text(registered_line(data), style="bold")
    rows = [("run", f"ollama run {data['name']}")]
    if data["changed"]:
        rows.append(("undo", data["undo"]))
    yield facts(rows)


def registered_line(data: Mapping[str, Any]) -> str:
    """One line: 'scan  linked, 0 bytes copied'."""
    if not data["changed"]:
        return f"{data['name']}  is there already with this content, nothing was changed"
    return f"{data['name']}  {data['how']}, {human(data['bytes_copied'])} copied"


def list_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A row a model; what is wrong with a file is said below the table."""
    from rich.text import Text

    if not data["models"]:
        yield Text("No models yet: qwenops up MODEL.gguf")
        return
    yield grid(
        ["model", "family", "quant", "GiB", "by", "files"],
        [
            [
                m["name"],
                m["family"],
                m["quant"],
                gib(m["size_bytes"]),
                "qwenops" if m["made_by_qwenops"] else "",
                m["state"],
            ]
            for m in data["models"]
        ],
        left=3,
    )
    for model in data["models"]:
        for file in model["files"]:
            if file["state"] not in {"ok", "unknown"}:
                style = "dim" if file["state"] == "hidden" else "red"
                yield Text(f"{model['name']}: {file['why']}", style=style)


def show_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Everything about one model."""
    rows: list[tuple[str, str]] = [
        ("Model", f"{data['name']} · {data['family']}, {data['parameters_size']}, {data['quant']}"),
        ("Size", human(data["size_bytes"])),
    ]
    if data["capabilities"]:
        rows.append(("Can", ", ".join(data["capabilities"])))
    for name, value in data["parameters"].items():
        rows.append(("PARAMETER", f"{name} {value}"))
    for name in ("renderer", "parser", "requires"):
        if data.get(name):
            rows.append((name.capitalize(), str(data[name])))
    if data["system"]:
        rows.append(("System", data["system"]))
    for file in data["files"]:
        source = f", linked from {file['source']}" if file["source"] else ""
        rows.append(("File", f"{file['digest'][:19]} {file['state']}{source}"))
        if file["why"]:
            rows.append(("", file["why"]))
    yield facts(rows)


def remove_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What went and what stayed."""
    from rich.text import Text

    verb = "Would remove" if data["dry_run"] else "Removed"
    for model in data["models"]:
        freed = f", {human(model['bytes_freed'])} freed" if model["bytes_freed"] else ""
        yield Text(f"{verb} {model['name']}{freed}")
        for note in model["notes"]:
            yield Text(f"  {note}", style="dim")
