"""The story of `up` on one screen: machine, model, plan, register, load, see, ready."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.models import registered_line
from qwenops.report.plan import chosen_view
from qwenops.report.tables import facts
from qwenops.report.verify import checks_lines, components_table, encoder_note, load_line, sight_rows
from qwenops.units import human

if TYPE_CHECKING:
    from rich.console import RenderableType


def up_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The plan, then a line for each step that was taken."""
    from rich.text import Text

    yield from chosen_view(data["plan"])
    brought = data["brought"]
    if data["dry_run"]:
        yield Text("")
        yield data["modelfile"]["text"]
        yield Text("")
        first = f"Would download {human(brought['bytes'])} into {brought['into']}. " if brought else ""
        yield Text(f"{first}Would register {data['name']}. Nothing was changed.", style="bold")
        return
    steps: list[tuple[str, Any]] = []
    if brought:
        got = f"downloaded {human(brought['bytes'])}" if brought["fetched"] else "was there before, nothing downloaded"
        steps.append(("Download", f"{got}   ({brought['into']})"))
    steps.append(("Register", registered_line(data["registered"])))
    verified = data["verified"]
    if verified:
        steps.append(("Load", load_line(verified)))
    elif data["verified_before"]:
        steps.append(("Load", f"went as planned on {data['verified_before']}; --again repeats it"))
    yield facts(steps)
    if verified:
        yield components_table(verified)
        if encoder_note(verified):
            yield Text(encoder_note(verified), style="dim")
        yield from checks_lines(verified)
    if data["sight"]:
        yield facts(sight_rows(data["sight"]))
    yield Text("")
    if data["ok"]:
        rows = [("Ready", f"ollama run {data['name']}"), ("Undo", data["registered"]["undo"])]
    else:
        rows = [("Not ready", f"qwenops verify {data['name']}"), ("Undo", data["registered"]["undo"])]
    yield facts(rows)
