"""A model on its way to another machine: what was written down, and what was made of it there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.models import registered_line
from qwenops.report.tables import facts
from qwenops.report.verify import load_line
from qwenops.units import human

if TYPE_CHECKING:
    from rich.console import RenderableType


def export_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The file, and what each of the model's files is."""
    rows = [("Written", data["written"])]
    for file in data["files"]:
        rows.append((file["kind"].capitalize(), f"{file['name']}, {human(file['size_bytes'])}, {file['sha256'][:12]}…"))
        if file["origin"]:
            rows.append(("", file["origin"]))
    yield facts([*rows, ("There", f"qwenops import {data['written']}")])


def import_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Whether it fits, where its files come from, and what was done."""
    from rich.text import Text

    size = human(data["predicted_bytes"])
    if data["fits"] == "yes":
        fit = f"{size}, fits this machine"
    else:
        word = "does not fit" if data["fits"] == "no" else "is too close to promise"
        fit = f"{size}, {word}: {human(data['short_bytes'])} short on {data['tightest']}"
    rows = [("Model", data["name"]), ("Needs", fit)]
    rows += [("Here", f"{name}   ({path})") for name, path in data["found"].items()]
    if data["download_bytes"]:
        rows.append(("Download", f"{human(data['download_bytes'])}, by digest"))
    if data["registered"]:
        rows.append(("Register", registered_line(data["registered"])))
    if data["verified"]:
        rows.append(("Load", load_line(data["verified"])))
    yield facts(rows)
    if data["registered"] is None:
        yield Text("Nothing was changed.", style="bold")
        if data["fits"] != "yes":
            instead = [("Instead", f"{data['here_instead']}     (planned for this machine)")]
            yield facts([*(instead if data["here_instead"] else []), ("Or", "--force registers it all the same")])
    else:
        yield facts([("Run", f"ollama run {data['name']}"), ("Undo", data["registered"]["undo"])])
