"""A recommendation: the line, why, the table of variants, and what to measure next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qwenops.report.plan import machine_line, nothing_view
from qwenops.report.tables import FAINT, facts, grid
from qwenops.units import gib

if TYPE_CHECKING:
    from rich.console import RenderableType

Figure = Mapping[str, Any]


def recommend_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What to run and why; where nothing fits, what comes nearest."""
    from rich.text import Text

    if not data["line"]:
        yield from nothing_view(data["plan"])
        return
    yield Text(data["line"], style="bold")
    rows = [("Why" if n == 0 else "", reason) for n, reason in enumerate(data["why"])]
    if not data["measured"] and len(data["variants"]) > 1:
        rows.append(("", "by bits alone: none of these was measured beside another here"))
    rows += [("Aside" if n == 0 else "", line) for n, line in enumerate(_aside(data["set_aside"]))]
    rows += [("Next" if n == 0 else "", command) for n, command in enumerate(data["next"])]
    rows.append(("Machine", machine_line(data["plan"])))
    yield facts(rows)
    if len(data["variants"]) > 1:
        yield Text("")
        yield _table(data["variants"])
        yield Text(_legend(data["variants"]), style=FAINT)


def _aside(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """What does not count: a reason once, with the variants that it is said of."""
    said: dict[str, list[str]] = {}
    for row in rows:
        said.setdefault(f"{row['kind']} {row['why']}", []).append(row["quant"])
    return [f"{', '.join(dict.fromkeys(quants))}: {why}" for why, quants in said.items()]


def _speed(figure: Figure) -> str:
    half = (figure["high"] - figure["low"]) / 2
    return f"{figure['value']:.1f} ±{half:.1f}"


def _divergence(figure: Figure) -> str:
    return f"{figure['value']:.4f} ±{(figure['high'] - figure['low']) / 2:.4f}"


def _share(figure: Figure) -> str:
    return f"{100 * figure['value']:.1f} ±{50 * (figure['high'] - figure['low']):.1f} %"


_COLUMNS: dict[str, tuple[str, Callable[[Figure], str]]] = {
    "pp": ("pp t/s", _speed),
    "tg": ("tg t/s", _speed),
    "quality": ("KLD", _divergence),
    "same top": ("same top", _share),
    "reading": ("CER", _share),
}


def _table(variants: Sequence[Mapping[str, Any]]) -> RenderableType:
    """A row a variant; a column of figures only where one has any."""
    named = {name for row in variants for name in row["measured"]}
    columns = [name for name in _COLUMNS if name in named] + sorted(named - _COLUMNS.keys())
    titles = [_COLUMNS[name][0] if name in _COLUMNS else name.removeprefix("vision ") for name in columns]
    rows = [
        [
            f"{row['quant']}{' *' if row['standing'] == 'front' else ''}{' <' if row['chosen'] else ''}",
            gib(row["file_bytes"]),
            str(row["num_ctx"]) if row["fits"] == "yes" else row["fits"],
            *(_cell(name, row["measured"].get(name)) for name in columns),
        ]
        for row in variants
    ]
    return grid(["quant", "GiB", "num_ctx", *titles], rows)


def _cell(name: str, figure: Figure | None) -> str:
    if not figure or "value" not in figure:
        return "·"
    return _COLUMNS[name][1](figure) if name in _COLUMNS else _share(figure)


def _legend(variants: Sequence[Mapping[str, Any]]) -> str:
    said = ["< recommended"]
    if any(row["standing"] == "front" for row in variants):
        said.append("* nothing here is as good in everything and shown better in something")
    if any(row["measured"] for row in variants):
        said.append("± half of the 95 % interval")
    return "   ".join(said)
