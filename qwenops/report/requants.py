"""The table of every quant that could be made of a model: size, bits, and the largest context on each card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.fits import cell_text
from qwenops.report.need import headline
from qwenops.report.tables import grid
from qwenops.units import gib

if TYPE_CHECKING:
    from rich.console import RenderableType


CARDS_ABREAST = 2
"""More do not stand beside the sizes in 80 columns."""


def quants_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A row a quant, the fewest bits first; a mark where it needs an importance matrix or is there already."""
    from rich.text import Text

    cards = [card["name"] for card in data["cards"]]
    yield Text(headline(data["model"]), style="bold")
    for start in range(0, len(cards), CARDS_ABREAST):
        abreast = slice(start, start + CARDS_ABREAST)
        rows = [[*_size(quant), *map(cell_text, quant["cells"][abreast])] for quant in data["quants"]]
        yield Text("")
        yield grid(["quant", "file bytes", "GiB", "bits", *cards[abreast]], rows)
    yield Text("i with an importance matrix   = there already", style="dim")
    yield Text("· does not fit   * everything the model was trained for", style="dim")
    yield Text("sizes as llama-quantize would make them; contexts by formula, all on the card", style="dim")


def _size(quant: Mapping[str, Any]) -> tuple[str, str, str, str]:
    size = quant["file_bytes"]
    return quant["quant"] + _marks(quant), f"{size:,}".replace(",", " "), gib(size), f"{quant['bits_per_weight']:.2f}"


def _marks(quant: Mapping[str, Any]) -> str:
    marks = ("i" if quant["imatrix"] else "") + ("=" if quant["there"] else "")
    return f" {marks}" if marks else ""
