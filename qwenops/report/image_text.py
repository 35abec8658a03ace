"""Pictures read back: each text with its verdict, and the best picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import FAINT

if TYPE_CHECKING:
    from rich.console import RenderableType

_SHOWN = 200
_SIGNS = {"right": ("✓", ""), "wrong": ("✗", "red"), "missing": ("✗", "red")}


def text_check_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A picture a block: its texts, what is wrong with each, what nobody asked for; at the end what to take."""
    from rich.padding import Padding
    from rich.text import Text

    for one in data["pictures"]:
        yield Text(one["file"], style="bold")
        if one["error"]:
            yield Padding(Text(f"not read: {one['error']}", style="red"), (0, 0, 0, 2))
            continue
        for text in one["texts"]:
            sign, style = _SIGNS[text["verdict"]]
            yield Padding(Text(f'{sign} "{_plain(text["text"])}" {_verdict(text)}', style=style), (0, 0, 0, 2))
            for fault in text["faults"] if text["verdict"] == "wrong" else ():
                yield Padding(Text(_fault(fault)), (0, 0, 0, 6))
        for extra in one["extra"]:
            yield Padding(Text(f'! nobody asked for "{_plain(extra)}"', style="yellow"), (0, 0, 0, 2))
    yield Text(_sum(data), style="" if data["right"] else "red")
    yield Text(f"read by {data['by']}, which can be wrong too", style=FAINT)


def _verdict(text: Mapping[str, Any]) -> str:
    if text["verdict"] == "wrong":
        return f'reads "{_plain(text["read"])}": {text["cer"]:.1%} of its characters wrong'
    return str(text["verdict"])


def _fault(fault: Mapping[str, Any]) -> str:
    wanted, read = _plain(fault["wanted"]), _plain(fault["read"])
    if not read:
        return f'{fault["kind"]}: "{wanted}"'
    return f'{fault["kind"]}: "{read}"' + (f' for "{wanted}"' if wanted else "")


def _sum(data: Mapping[str, Any]) -> str:
    pictures, right = len(data["pictures"]), data["right"]
    if not right:
        best = f"; {data['best']} comes nearest" if data["best"] and pictures > 1 else ""
        return f"no picture has every text right{best}" if pictures > 1 else "not every text is right"
    if pictures == 1:
        return "every text is right"
    return f"{right} of {pictures} pictures have every text right; best: {data['best']}"


def _plain(text: str) -> str:
    """What stands in a picture is nobody's command to this terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"
