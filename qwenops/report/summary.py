"""A report in the terminal, in short, and as Markdown for pasting: its tables, one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.known import Section, Table, sections
from qwenops.report.plain import one_line
from qwenops.report.tables import FAINT, grid

if TYPE_CHECKING:
    from rich.console import RenderableType

_SHORT = 12
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~])")


def report_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Each part's first rows; parts that hold nothing say together what would fill them."""
    from rich.text import Text

    if data["shown_as"] == "page":
        from qwenops.report.html.page import page

        yield page(data)
        return
    if data["shown_as"] == "markdown":
        yield markdown(data)
        return
    empty = []
    for section in sections(data):
        if not any(table.rows for table in section.tables):
            empty.append(section)
            continue
        for table in section.tables:
            yield Text(table.caption, style="bold")
            short = _short(table, section)
            yield grid(short.header, short.rows[:_SHORT], left=short.left)
            if len(short.rows) > _SHORT:
                yield Text(f"{len(short.rows) - _SHORT} more rows on the page", style=FAINT)
            yield Text("")
    for section in empty:
        yield Text(f"{section.title}: nothing yet   {section.fill[0]}", style=FAINT)
    if data["written"]:
        yield Text(f"Written to {data['written']}, {data['page_bytes'] / 1000:.0f} kB, opens offline.")
    else:
        yield Text("The same with pictures and an explorer: qwenops report -o report.html", style=FAINT)


def _short(table: Table, section: Section) -> Table:
    """A table that holds 80 columns: reasons and single parts of a load are for the page."""
    header, rows = table.header, table.rows
    if section.key == "machine":
        return table
    if section.key == "plan":
        header, rows = header[:-1], tuple(row[:-1] for row in rows)
    if section.key == "memory":
        rows = tuple(row for row in rows if row[1] in ("compared", "all"))
    if section.key == "reading":
        header, rows = header[:6], tuple(row[:6] for row in rows)
    cut = tuple(tuple(one_line(cell, 34 if at else 40) for at, cell in enumerate(row)) for row in rows)
    return Table(table.caption, header, cut, table.left)


def markdown(data: Mapping[str, Any]) -> str:
    """All tables as GitHub's Markdown; nothing of a name or a text is taken for markup."""
    lines = [f"# qwenops report, {data['made']['at'][:10]}", ""]
    for section in sections(data):
        tables = [table for table in section.tables if table.rows]
        if not tables:
            continue
        lines += [f"## {section.title}", ""]
        for table in tables:
            if len(tables) > 1 or section.key != "machine":
                lines += [_said(table.caption), ""]
            lines += [_line(table.header), _line(["---"] * table.left + ["--:"] * (len(table.header) - table.left))]
            lines += [_line([_said(cell) for cell in row]) for row in table.rows]
            lines.append("")
    return "\n".join(lines) + f"Made by qwenops {data['made']['qwenops']}.\n"


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _said(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", one_line(text))
