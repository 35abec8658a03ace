"""Plain tables and bars for a terminal: right-aligned figures, one unit a table, nothing above 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from qwenops.units import GIB, MIB, gib, mib

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

LABEL = "bold"
FAINT = "dim"


def facts(rows: Iterable[tuple[str, Any]]) -> Table:
    """A two-column block: a word at the left, what is so at the right."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style=LABEL, min_width=8)
    table.add_column(overflow="fold")
    for word, value in rows:
        table.add_row(word, Text(value) if isinstance(value, str) else value)
    return table


def grid(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> Table:
    """A table without lines: the first `left` columns to the left, figures to the right."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style=FAINT, pad_edge=False)
    for i, title in enumerate(header):
        table.add_column(title, justify="left" if i < left else "right", overflow="fold", no_wrap=i >= left)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def size_unit(largest_bytes: int) -> tuple[str, int]:
    """The unit in which a table is shown: MiB below 10 GiB of the largest figure, GiB above."""
    return ("MiB", MIB) if largest_bytes < 10 * GIB else ("GiB", GIB)


def amount(n_bytes: int, unit: str) -> str:
    """A size in the table's unit; nothing is a dot, so that the eye finds what is there."""
    if n_bytes == 0:
        return "·"
    return mib(n_bytes) if unit == "MiB" else gib(n_bytes)


def bar(parts: Sequence[int], total: int, width: int = 40) -> RenderableType:
    """Shares of `total` as one line: a shade for each part, blank for what is free."""
    from rich.text import Text

    shades = "█▓▒░"
    drawn = ""
    for i, part in enumerate(parts):
        drawn += shades[i % len(shades)] * round(width * part / max(total, 1))
    return Text("▕" + drawn[:width].ljust(width) + "▏")
