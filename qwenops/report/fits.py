"""The matrix of models and cards; turned round where there are more cards than a terminal is wide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import grid
from qwenops.units import human

if TYPE_CHECKING:
    from rich.console import RenderableType

MOST_COLUMNS = 4


def fits_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Largest context a cell; a dot where the model does not fit, a star where the whole trained context does."""
    from rich.text import Text

    cards, models = data["cards"], data["models"]
    labels = [f"{m['name']} {m['quant']}" for m in models]
    if len(cards) <= MOST_COLUMNS:
        rows = [[label, *(cell_text(c) for c in m["cells"])] for label, m in zip(labels, models, strict=True)]
        yield grid(["largest num_ctx", *(c["name"] for c in cards)], rows)
    else:
        for start in range(0, len(models), MOST_COLUMNS):
            part = models[start : start + MOST_COLUMNS]
            rows = [
                [card["name"], human(card["free_bytes"]), *(cell_text(m["cells"][i]) for m in part)]
                for i, card in enumerate(cards)
            ]
            yield grid(["largest num_ctx", "free", *labels[start : start + MOST_COLUMNS]], rows)
    yield Text("· does not fit   * everything the model was trained for   by formula, all on the card", style="dim")


def cell_text(cell: Mapping[str, Any]) -> str:
    """'32768', '262144*', '·'."""
    if not cell["num_ctx"]:
        return "·"
    return f"{cell['num_ctx']}{'*' if cell['whole'] else ''}"
