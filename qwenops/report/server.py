"""The server's settings on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import FAINT, LABEL, facts, grid
from qwenops.units import human

if TYPE_CHECKING:
    from rich.console import RenderableType


def server_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Setting, value, and where it was read."""
    from rich.text import Text

    yield Text(f"Ollama {data['version']} at {data['url']} ({data['place']})", style=LABEL)
    rows = [[s["name"], s["value"] or "·", s["source"]] for s in data["settings"]]
    yield grid(["setting", "value", "read from"], rows, left=3)


def server_plan_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A line a model in the order asked for, then who is loaded at the end, then what would change it."""
    from rich.text import Text

    rows = [_stay(s) for s in data["stays"]]
    yield grid(["asked for", "layers on GPU", "projector", "takes", "Ollama's guess", "its limit"], rows)
    for stay in data["stays"]:
        yield from (Text(line) for line in _remarks(stay))
    yield Text("")
    yield facts([("Loaded", ", ".join(data["loaded"])), *_wishes(data)])


def _stay(s: Mapping[str, Any]) -> list[str]:
    layers = s["layers"]
    guess = human(s["predicted_bytes"]) if s["limit_bytes"] else "·"
    limit = human(s["limit_bytes"]) if s["limit_bytes"] else "·"
    projector = f"CPU ({s['projector_on_cpu']})" if s["projector_on_cpu"] else "as planned"
    return [s["name"], f"{layers['on_device']}/{layers['total']}", projector, human(s["device_bytes"]), guess, limit]


def _remarks(s: Mapping[str, Any]) -> Iterator[str]:
    if s["shares"]:
        yield f"  {s['name']}: the same file under the same options as {s['shares']}, which answers for it"
        return
    if s["sends_away"]:
        yield f"! {s['name']}: Ollama unloads {', '.join(s['sends_away'])} first ({s['why']})"
    if s["spilled_layers"]:
        yield f"! {s['name']}: {s['spilled_layers']} layers spill to the processor"
    if s["short_bytes"]:
        yield f"! {s['name']}: let in although {human(s['short_bytes'])} are missing beside the others"


def _wishes(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for option in data["alternatives"]:
        pairs = " ".join(f"{name}={value}" for name, value in option["settings"].items())
        outcome = "all stay whole" if option["all_stay"] else f"{', '.join(option['loaded'])} loaded at the end"
        yield ("With", f"{pairs}: {outcome}   qwenops server write {pairs}")


def server_write_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The file, then how it is applied and taken back."""
    from rich.text import Text

    yield Text(f"# {data['path']}", style=FAINT)
    yield data["text"].replace("\r\n", "\n")
    yield Text("")
    # to the letter: a command that is broken into lines cannot be copied
    for word in ("apply", "undo"):
        yield f"{word}:\n" + "".join(f"  {line}\n" for line in data[word])
    yield Text(f"Written to {data['written']}." if data["written"] else "Nothing was written or changed.", style=FAINT)


def server_check_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Each setting with what is in force."""
    rows = [[c["name"], c["wanted"], c["value"] or "·", _verdict(c), c["source"]] for c in data["checks"]]
    yield grid(["setting", "wanted", "in force", "ok", "read from"], rows, left=5)


def _verdict(check: Mapping[str, Any]) -> str:
    if check["ok"]:
        return "yes"
    return "no" if check["proven"] else "not proven"
