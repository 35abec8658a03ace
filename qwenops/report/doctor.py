"""The doctor's findings, each with what was expected, what was seen, and what to type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import facts
from qwenops.units import human

if TYPE_CHECKING:
    from rich.console import RenderableType

MARKS = {"ok": ("✓", "green"), "advice": ("!", "yellow"), "problem": ("✗", "red"), "unknown": ("?", "dim")}


def doctor_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Findings in the order in which a load meets them; what is fine takes one line."""
    from rich.text import Text

    for finding in data["findings"]:
        mark, style = MARKS[finding["level"]]
        yield Text(f"{mark} ", style=style) + Text(finding["title"], style="")
        if finding["level"] in {"ok", "unknown"}:
            continue
        rows = [(word, finding[word]) for word in ("expected", "observed", "evidence") if finding[word]]
        rows += [("do" if i == 0 else "", step) for i, step in enumerate(finding["do"])]
        yield indented(facts(rows))
    problems, advice = data["problems"], data["advice"]
    yield Text(f"{problems} problem{'s' * (problems != 1)}, {advice} advice")


def indented(what: RenderableType) -> RenderableType:
    """The same, four columns to the right."""
    from rich.padding import Padding

    return Padding(what, (0, 0, 0, 4))


def uninstall_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What goes, what stays, and whether it is done yet."""
    from rich.text import Text

    verb = "Removed" if data["done"] else "Would remove"
    if data["models"] or data["files"]:
        yield Text(f"{verb}", style="bold")
        yield facts([("model", m) for m in data["models"]])
        yield facts([(f["what"], f"{f['path']} ({human(f['bytes'])})") for f in data["files"]])
    else:
        yield Text("There is nothing of qwenops here.")
    yield Text("Stays", style="bold")
    yield facts([("", line) for line in data["stays"]])
    if not data["done"] and (data["models"] or data["files"]):
        yield Text("Do it with: qwenops uninstall --yes")
