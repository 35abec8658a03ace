"""A load held against its plan: the checks, and every figure predicted beside measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import facts, grid
from qwenops.units import human

if TYPE_CHECKING:
    from rich.console import RenderableType

MARKS = {"ok": "✓", "wrong": "✗", "not seen": "?"}


def verify_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Headline, components, checks, sight."""
    from rich.text import Text

    yield Text(f"{data['name']}: {load_line(data)}", style="bold")
    yield components_table(data)
    if encoder_note(data):
        yield Text(encoder_note(data), style="dim")
    yield from checks_lines(data)
    if data.get("sight"):
        yield facts(sight_rows(data["sight"]))


def load_line(data: Mapping[str, Any]) -> str:
    """One line: layers, predicted, measured."""
    layers = data["layers"]
    said = f"{layers['on_device']} of {layers['total']} layers on the GPU" if layers else "loaded"
    if data["predicted_bytes"] and data["measured_bytes"]:
        said += f" · predicted {human(data['predicted_bytes'])}, measured {human(data['measured_bytes'])}"
    return f"{said} · {data['load_seconds']:.1f} s"


def components_table(data: Mapping[str, Any]) -> RenderableType:
    """A row a component."""

    def cell(n: int | None) -> str:
        return "not seen" if n is None else f"{n / 1024**2:.1f}"

    rows = []
    for c in data["components"]:
        mark = {True: "", False: "outside", None: ""}[c["within"]]
        name = "KV" if c["name"] == "kv" else c["name"]
        rows.append([c["place"], name, cell(c["predicted_bytes"]), cell(c["measured_bytes"]), c["source"], mark])
    return grid(["MiB", "", "predicted", "measured", "by", ""], rows, left=2)


def encoder_note(data: Mapping[str, Any]) -> str:
    """Why the encoder's two figures differ; empty where there is none."""
    if not any(c["name"] == "encoder" for c in data["components"]):
        return ""
    return "encoder: planned for the largest image, measured as a load leaves it, before the first one"


def checks_lines(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What is wrong in full, what was not seen in a line, what is right not at all."""
    from rich.text import Text

    for check in data["checks"]:
        if check["verdict"] == "ok":
            continue
        style = "red" if check["verdict"] == "wrong" else "dim"
        yield Text(f"{MARKS[check['verdict']]} {check['name']}", style=style)
        rows = [(w, check[w]) for w in ("expected", "observed", "evidence") if check[w]]
        rows += [("do" if i == 0 else "", step) for i, step in enumerate(check["do"])]
        yield facts(rows)


def sight_rows(sight: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What came of the picture, and what to do where it failed: the label stands before the first line only."""
    return [("See", sight_line(sight)), *(("", step) for step in sight["do"])]


def sight_line(sight: Mapping[str, Any]) -> str:
    """What came of the picture, in one line."""
    if not sight["ok"]:
        return f"NOT proven: {sight['why']}"
    scene, cost = sight["scene"], f"{sight['grew_by_tokens']} picture tokens, {sight['seconds']:.1f} s"
    shapes = f"the {scene['first']} {_PLACES[scene['relation']]} the {scene['second']}"
    if not sight["read"]:
        return f"took the picture ({cost}); reading is not asked of a model that is not known to read"
    read = f'read "{scene["word"]}" and {scene["number"]}'
    if not sight["related"]:
        return f"{read} ({cost}); it did not find {shapes}, which is not asked of a model this small"
    return f"{read}, found {shapes} ({cost})"


_PLACES = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
