"""The catalogue on a terminal: a line a model, with what of it fits here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import FAINT, facts, grid
from qwenops.units import human

if TYPE_CHECKING:
    from rich.console import RenderableType


def models_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Name, parameters, and the best quant that fits whole with its context; one model alone in full."""
    from rich.text import Text

    models = data["models"]
    yield grid(["model", "parameters", "best that fits", "num_ctx", "files"], [_cells(m) for m in models], left=1)
    yield Text(f"fits: {_room(data['machine'])}, with a picture of full size; by formula", style=FAINT)
    if len(models) == 1:
        yield Text("")
        yield from _in_full(models[0])
    else:
        yield Text("more about one: qwenops models NAME     set it up: qwenops up NAME --for ocr", style=FAINT)


def _cells(m: Mapping[str, Any]) -> list[str]:
    fits = m["fits"]
    mark = "+" if m["own"] else ""
    if fits is None:
        what = "·" if m["dimensions_known"] else "not known"
        return [m["name"] + mark, _count(m["parameters"]), what, "·", "·"]
    return [m["name"] + mark, _count(m["parameters"]), fits["quant"], str(fits["num_ctx"]), human(fits["file_bytes"])]


def _count(parameters: int | None) -> str:
    return "·" if parameters is None else f"{parameters / 1e9:.1f} B"


def _room(machine: Mapping[str, Any]) -> str:
    devices = machine["devices"]
    if not devices:
        return f"on the processor, {human(machine['host_available_bytes'])} free"
    where = devices[0]["description"] if len(devices) == 1 else f"{len(devices)} devices"
    return f"whole on {where}, {human(sum(d['free_bytes'] for d in devices))} free"


def _in_full(m: Mapping[str, Any]) -> Iterator[RenderableType]:
    rows = [
        ("model", m["title"]),
        ("names", ", ".join(m["names"])),
        ("thinks", {"thinking": "always", "instruct": "never", "both": "as each request says"}[m["mode"]]),
        ("licence", m["licence"] or "not known"),
        ("boxes", m["coordinates"] or "not known"),
        ("Ollama", m["ollama"] or "no tag known"),
    ]
    rows += [("files" if i == 0 else "", f"hf:{r['repo']}{_of_repo(r)}") for i, r in enumerate(m["repos"])]
    rows += [("open" if i == 0 else "", text) for i, text in enumerate(m["unverified"])]
    rows += [("sources" if i == 0 else "", text) for i, text in enumerate(m["sources"])]
    yield facts(rows)


def _of_repo(repo: Mapping[str, Any]) -> str:
    more = [", ".join(repo["quants"])] if repo["quants"] else []
    more += ["official"] if repo["official"] else []
    more += [] if repo["sure"] else ["not seen"]
    return f"   ({'; '.join(more)})" if more else ""
