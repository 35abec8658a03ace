"""Models that make pictures side by side: licence, size, steps, how well they write, and the source of every cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from qwenops.image.catalogue import Fact, ImageModel, Source

FACTS: Final = (
    "licence",
    "commercial",
    "released",
    "parameters_billions",
    "q4_bytes",
    "text_encoder",
    "steps",
    "true_cfg_scale",
    "guidance_scale",
)
SCORES: Final = ("cvtg_2k", "longtext_en", "longtext_zh", "chinese_word")


@dataclass(frozen=True)
class Cell:
    """One value with its source; both None where nothing is known."""

    value: Any
    source: Source | None


@dataclass(frozen=True)
class Row:
    """One model in the comparison. `native_size` is its largest official size, or the one of its maker's example."""

    model: ImageModel
    cells: dict[str, Cell]

    @property
    def sources(self) -> tuple[Source, ...]:
        """Every source that the row rests on, each once."""
        return tuple(dict.fromkeys(cell.source for cell in self.cells.values() if cell.source is not None))


def compare(models: Sequence[ImageModel]) -> tuple[Row, ...]:
    """A row for each model, in the order given."""
    return tuple(Row(model, _cells(model)) for model in models)


def _cells(model: ImageModel) -> dict[str, Cell]:
    cells = {name: _cell(model.facts.get(name)) for name in FACTS}
    cells["native_size"] = _native_size(model)
    return cells | {name: _cell(model.scores.get(name)) for name in SCORES}


def _cell(fact: Fact | None) -> Cell:
    return Cell(None, None) if fact is None else Cell(fact.value, fact.source)


def _native_size(model: ImageModel) -> Cell:
    table, example = model.facts.get("size_table"), model.facts.get("size")
    if table is not None and "1:1" in model.sizes:
        return Cell(list(model.sizes["1:1"]), table.source)
    return _cell(example)
