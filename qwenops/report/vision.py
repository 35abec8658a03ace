"""What was seen: a row a cell with the share of right answers by kind, then some that were wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.reading import (
    comparison,
    failures,
    figure,
    labels,
    percent,
    printable,
    spread,
    tokens_of,
    troubles_of,
)
from qwenops.report.tables import FAINT, LABEL, grid

if TYPE_CHECKING:
    from rich.console import RenderableType


def vision_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The table of cells, what could not be told apart, and examples."""
    from rich.text import Text

    if data["saved"]:
        yield Text(f"{len(data['questions'])} questions → {data['saved']}")
    rows = data["results"]
    if not rows:
        return
    names = labels(rows)
    seen = [(name, row) for name, row in zip(names, rows, strict=True) if row["answered"]]
    if seen:
        kinds = dict.fromkeys(kind for _, row in seen for kind in row["kinds"])
        unlike, troubles = len({row["answered"] for _, row in seen}) > 1, troubles_of(seen)
        header = ["", *(["asked"] if unlike else []), "right", *kinds, "IoU", *troubles, "s", "tokens"]
        yield grid(header, [_cells(name, row, list(kinds), unlike, troubles) for name, row in seen])
    yield from failures(names, rows, "questions", len(data["questions"]))
    for one in data["compared"]:
        yield Text(comparison(names, one, "questions", "answers right more often than", "wrong less often by"))
    for name, row in seen:
        if row["wrong"]:
            yield Text(f"Wrong by {name}", style=LABEL)
            for one in row["wrong"]:
                yield Text(f"  {one['id']}: {one['expected']}  →  {printable(one['answered'])[:100]}")
    told = f"{len(data['questions'])} made questions, seed {data['settings']['seed']}; boxes are right from IoU 0.5"
    engine = data["engine"]
    yield Text(told if engine is None else f"{told}; {engine['name']} {engine['version']}", style=FAINT)


def _cells(name: str, row: Mapping[str, Any], kinds: list[str], unlike: bool, troubles: list[str]) -> list[str]:
    right = [f"{100 * row['kinds'][k]['right']['value']:.0f} %" if k in row["kinds"] else "·" for k in kinds]
    return [
        name,
        *([str(row["answered"])] if unlike else []),
        spread(row["right"]),
        *right,
        "·" if row["iou"] is None else f"{row['iou']['value']:.2f}",
        *(percent(row[trouble] / row["answered"]) for trouble in troubles),
        figure(row["seconds_per_page"]["value"], 1),
        tokens_of(row),
    ]
