"""Modelfiles: the text as it is, the findings of the linter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType


def modelfile_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The Modelfile itself, so that it can be piped into a file; or where it was written."""
    if data["written"]:
        yield f"{data['written']}\n"
        return
    yield data["text"]


def check_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A line a finding: where, what, what to do."""
    from rich.text import Text

    for f in data["findings"]:
        style = "red" if f["level"] == "error" else "yellow"
        where = f"{data['file']}:{f['line']}" if f["line"] else data["file"]
        yield Text(f"{where}: {f['level']}: {f['message']} [{f['code']}]", style=style)
        if f["do"]:
            yield Text(f"    {f['do']}")
    errors, warnings = data["errors"], data["warnings"]
    if not errors and not warnings:
        yield Text(f"{data['file']}: nothing found")
    else:
        yield Text(f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}")
