"""A client's settings: lines to copy first, then why, then what it cannot set, then whether it gets through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import FAINT, LABEL, facts, grid

if TYPE_CHECKING:
    from rich.console import RenderableType


def connect_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Lines to copy, settings with their reasons, limits, reach."""
    from rich.text import Text

    where = "in a container" if data["runs_in"] == "docker" else "on this machine"
    yield Text(f"{data['title']}, {where}: {data['model']} by the {data['api']} API at {data['url']}", style="bold")
    yield Text("")
    snippet = data["snippet"]
    if snippet and snippet["text"]:
        yield snippet["text"]
        yield Text("")
    if not snippet or snippet["form"] != "env":
        yield from _settings(data)
    yield Text("What it cannot say", style=LABEL)
    for limit in data["limits"]:
        yield Text(f"- {limit['text']}")
        yield Text(f"  {limit['source']}", style=FAINT)
    if data["why"]:
        yield Text("")
        mark = "✗" if data["reach"] == "no" else "?"
        yield Text(f"{mark} {data['why']}", style="red" if data["reach"] == "no" else "dim")
        yield facts([("do" if i == 0 else "", step) for i, step in enumerate(data["do"])])


def _settings(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Settings that have a reason to be told; all of them where there are no lines to copy."""
    from rich.text import Text

    told = [s for s in data["settings"] if s["why"] or not (data["snippet"] and data["snippet"]["text"])]
    if data["api"] == "OpenAI":
        told = data["settings"]
    if told:
        yield grid(["setting", "value", "why"], [[s["name"], s["value"], s["why"] or ""] for s in told], left=3)
        yield Text("")
