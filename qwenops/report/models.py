"""Registered models: what was handed over, what is there, and whether its files are still true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
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
    """A row a model; what is stale, and what is wrong with a file, is said below the table."""
    from rich.text import Text

    if not data["models"]:
        yield Text("No models yet: qwenops up MODEL.gguf")
        return
    yield grid(
        ["model", "quant", "task", "files", "num_ctx", "GiB", "planned", "loaded", "age"],
        [_list_row(m, data["now"]) for m in data["models"]],
        left=4,
    )
    if data["disk_bytes"] is not None:
        yield Text(f"{gib(data['disk_bytes'])} GiB on disk, files that several names share counted once", style="dim")
    for model in data["models"]:
        for reason in model["plan"]["stale"] if model["plan"] else ():
            yield Text(f"{model['name']}: {reason}", style="yellow")
        for file in model["files"]:
            if file["state"] not in {"ok", "unknown"}:
                style = "dim" if file["state"] == "hidden" else "red"
                yield Text(f"{model['name']}: {file['why']}", style=style)


def _list_row(model: Mapping[str, Any], now: str) -> list[str]:
    """Memory as planned and as the last load took it, in GiB; a dot where nothing is known."""
    plan = model["plan"]
    if plan is None:
        return [model["name"], model["quant"], "·", model["state"], "·", gib(model["size_bytes"]), "·", "·", "·"]
    memory = [gib(plan[key]) if plan[key] else "·" for key in ("predicted_bytes", "measured_bytes")]
    mark = " stale" if plan["stale"] else ""
    context = str(plan["choice"].get("num_ctx", "·"))
    age = _age(plan["made"], now) if plan["made"] else "·"
    return [
        *(model["name"], model["quant"], plan["task"] + mark, model["state"], context, gib(model["size_bytes"])),
        *(*memory, age),
    ]


def _age(made: str, now: str) -> str:
    """How long ago, in the largest unit that says it."""
    seconds = (datetime.fromisoformat(now) - datetime.fromisoformat(made)).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return "now"


def show_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Everything about one model."""
    rows: list[tuple[str, str]] = [
        ("Model", f"{data['name']} · {data['family']}, {data['parameters_size']}, {data['quant']}"),
        ("Size", human(data["size_bytes"])),
    ]
    if data["capabilities"]:
        rows.append(("Can", ", ".join(data["capabilities"])))
    if data["plan"]:
        rows += _plan_rows(data["plan"])
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


def _plan_rows(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    choice = plan["choice"]
    rows = [
        ("Asked", f"{' '.join(plan['asked'])} --for {plan['task']}"),
        ("Plan", f"num_ctx {choice.get('num_ctx')}, {choice.get('images')} images, {human(plan['predicted_bytes'])}"),
    ]
    if plan["measured_bytes"]:
        rows.append(("Loaded", human(plan["measured_bytes"])))
    where = ", ".join(d["description"] for d in plan["devices"]) or "the CPU"
    rows.append(("Made", f"{(plan['made'] or '')[:10]} for {where}, Ollama {plan['ollama'] or 'not running'}"))
    rows += [("Stale", reason) for reason in plan["stale"]]
    return rows


def remove_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What went and what stayed."""
    from rich.text import Text

    verb = "Would remove" if data["dry_run"] else "Removed"
    for model in data["models"]:
        freed = f", {human(model['bytes_freed'])} freed" if model["bytes_freed"] else ""
        yield Text(f"{verb} {model['name']}{freed}")
        for note in model["notes"]:
            yield Text(f"  {note}", style="dim")
