"""What nobody needs: each thing with its reason, what the disk gets back, and what stays in the hub's cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import FAINT, LABEL, grid
from qwenops.units import human

if TYPE_CHECKING:
    from rich.console import RenderableType

_MOST_OF_A_KIND = 20


def gc_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The things, the sum, then what was left alone, what is only offered and what stays."""
    from rich.text import Text

    things = data["things"] if data["dry_run"] else [thing for thing in data["things"] if thing["taken"]]
    verb = "Would take away" if data["dry_run"] else "Took away"
    if things:
        yield grid([verb, "size", "frees"], list(_rows(things)))
        count = f"{len(things)} thing{'s' * (len(things) > 1)}"
        yield Text(f"{verb} {count}: {human(data['frees_bytes'])} come free", style=LABEL)
    elif data["things"]:
        yield Text("Nothing was taken away.")
    elif all(store["looked_at"] for store in data["stores"]):
        yield Text("There is nothing that nobody needs.")
    for store in data["stores"]:
        if not store["looked_at"]:
            yield Text(f"Left alone: {store['why']}", style="red")
            yield from (Text(f"  {step}") for step in store["do"])
    if data["offered"]:
        size = human(sum(thing["bytes"] for thing in data["offered"]))
        yield Text(f"Offered: {size} of downloads whose models are gone, with --downloads")
        yield from (Text(f"  {thing['path']}\n    {thing['why']}", style=FAINT) for thing in data["offered"])
    if data["hub"]["repos"]:
        yield Text(f"Stays in {data['hub']['folder']}")
        yield grid(
            ["  repository", "size", "take it away with"],
            [[f"  {row['repo']}", human(row["bytes"]), row["do"]] for row in data["hub"]["repos"]],
        )


def _rows(things: list[Mapping[str, Any]]) -> Iterator[list[str]]:
    shown: dict[str, int] = {}
    for thing in things:
        kind = thing["kind"]
        shown[kind] = shown.get(kind, 0) + 1
        if shown[kind] <= _MOST_OF_A_KIND:
            yield [_said(thing), human(thing["bytes"]), human(thing["frees_bytes"])]
    for kind, count in shown.items():
        if count > _MOST_OF_A_KIND:
            rest = [thing for thing in things if thing["kind"] == kind][_MOST_OF_A_KIND:]
            size, frees = (sum(thing[key] for thing in rest) for key in ("bytes", "frees_bytes"))
            yield [f"{kind}  {len(rest)} more", human(size), human(frees)]


def _said(thing: Mapping[str, Any]) -> str:
    why = thing["why"]
    if thing["kind"] == "link" and not thing["frees_bytes"]:
        why += "; its data has another name there, so it frees nothing"
    path = PurePath(thing["path"])
    if path.name.startswith("sha256-"):  # the name says nothing; where it is does
        return f"{thing['kind']}  {path.name[:19]}… in {path.parent.parent}\n  {why}"
    return f"{thing['kind']}  {path}\n  {why}"
