"""Prompts for pictures: what was found in one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import FAINT, facts

if TYPE_CHECKING:
    from rich.console import RenderableType

_STYLES = {"error": "red", "warning": "yellow", "note": FAINT}


def prompt_check_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A finding in three lines: where and what, why and by whom, what to do; then the sum and the tokens."""
    from rich.padding import Padding
    from rich.text import Text

    for f in data["findings"]:
        found = f" {f['found']}" if f["found"] else ""
        yield Text(f"{f['line']}:{f['column']} {f['level']}:{found} [{f['code']}]", style=_STYLES[f["level"]])
        yield Padding(Text(f"{f['why']} ({f['from']})"), (0, 0, 0, 4))
        yield Padding(Text(f"do: {f['do']}"), (0, 0, 0, 4))
    errors, warnings = data["errors"], data["warnings"]
    if data["findings"]:
        yield Text(f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}")
    else:
        yield Text("nothing to mend")
    yield facts(_about(data))


def prompt_write_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The passage alone, so that it can be piped; or what was wrong with each try."""
    from rich.padding import Padding
    from rich.text import Text

    if data["written"] is not None:
        yield data["written"] + "\n"
        return
    yield Text(f"{data['by']} wrote nothing that keeps the wish; nothing was changed or made up for it", style="red")
    for number, one in enumerate(data["tries"], 1):
        yield Text(f"try {number}")
        for complaint in one["complaints"]:
            yield Padding(Text(_plain(complaint)), (0, 0, 0, 4))
    yield Text("take a larger model, --tries, or write it yourself: qwenops image prompt check")


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _about(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("for", data["title"] + (f", {data['size']}" if data["size"] else "")), ("tokens", _tokens(data))]
    if data["texts"]:
        rows.append(("texts", "\n".join(" ".join(text.split()) for text in data["texts"])))
    if data["sources"]:
        rows.append(("from", "\n".join(f"{one['id']}: {one['title']}" for one in data["sources"])))
    return rows


def _tokens(data: Mapping[str, Any]) -> str:
    tokens, most = data["tokens"], data["most_tokens"]
    limit = f" of {most}" if most else ""
    if tokens["tokenizer"]:
        return f"{tokens['least']}{limit} (counted by {tokens['tokenizer'].rpartition('/')[2]})"
    return f"{tokens['least']} to {tokens['most']}{limit} (bounds: no tokenizer here)"
