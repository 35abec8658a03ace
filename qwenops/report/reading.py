"""What was read: a row a cell with its errors, kinds of pages below, then what was misread, cut out of its page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import FAINT, LABEL, grid

if TYPE_CHECKING:
    from rich.console import RenderableType

_MOST_CELLS = 6


def ocr_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The table of cells, errors by kind of page, what could not be told apart, and examples."""
    from rich.text import Text

    if data["saved"]:
        yield Text(f"{len(data['pages'])} pages → {data['saved']}")
    rows = data["results"]
    if not rows:
        return
    names = labels(rows)
    read = [(name, row) for name, row in zip(names, rows, strict=True) if row["answered"]]
    if read:
        yield grid(*_cells(read))
        if any(len(row["kinds"]) > 1 for _, row in read):
            yield Text("")
            yield _by_kind(read[:_MOST_CELLS])
    yield from failures(names, rows, "pages", len(data["pages"]))
    for one in data["compared"]:
        yield Text(comparison(names, one, "pages", "reads better than", "CER lower by"))
    for name, row in read:
        if row["misread"]:
            yield Text(f"Misread by {name}", style=LABEL)
            yield from (Text(_example(example)) for example in row["misread"])
    yield Text(_about(data), style=FAINT)


def labels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each cell: the quant, or the file where quants are the same, and the budget and heat that vary."""
    several = {key: len({row[key] for row in rows}) > 1 for key in ("image_tokens", "temperature")}
    by_label: dict[str, set[str]] = {}
    for row in rows:
        by_label.setdefault(row["label"], set()).add(row["model"])
    names = []
    for row in rows:
        name = row["label"] if len(by_label[row["label"]]) == 1 else _stem(row["model"])
        if several["image_tokens"]:
            name += f" @{row['image_tokens'] or 'full'}"
        if several["temperature"]:
            name += f" T{row['temperature']:g}"
        names.append(name)
    return names


def _stem(source: str) -> str:
    return source.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".gguf")


def failures(names: Sequence[str], rows: Sequence[Mapping[str, Any]], what: str, of: int) -> Iterator[RenderableType]:
    """What failed or was stopped, with the reason."""
    from rich.text import Text

    for name, row in zip(names, rows, strict=True):
        if row["status"] == "failed":
            yield Text(f"{name}: {row['error']}", style="red")
            yield from (Text(f"  {step}") for step in row["do"])
        elif row["status"] == "stopped":
            yield Text(f"{name}: {row['answered']} of {of} {what}")
        for page in row["failed_pages"][:3]:
            yield Text(f"{name}, {page['page']}: {page['why']}", style="red")
        if len(row["failed_pages"]) > 3:
            yield Text(f"{name}: {len(row['failed_pages'])} {what} failed in all", style="red")


def percent(value: float) -> str:
    """A share in percent, with the digits that matter."""
    return f"{100 * value:.1f} %"


def spread(estimate: Mapping[str, float] | None) -> str:
    """A share in percent with half of its interval."""
    if estimate is None:
        return "·"
    return f"{percent(estimate['value'])} ±{50 * (estimate['high'] - estimate['low']):.1f}"


def figure(value: float | None, digits: int = 0) -> str:
    """A plain number, a dot where there is none."""
    return "·" if value is None else f"{value:.{digits}f}"


def _cells(read: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[list[str], list[list[str]]]:
    forms, unlike = any(row["forms"] for _, row in read), len({row["answered"] for _, row in read}) > 1
    troubles = troubles_of(read)
    header = ["", *(["pages"] if unlike else []), "wrong", "CER", "WER", *(["fields"] if forms else []), *troubles]
    rows = [
        [
            name,
            *([str(row["answered"])] if unlike else []),
            percent(row["wrong"]["value"]),
            spread(row["cer"]),
            percent(row["wer"]["value"]) if row["wer"] else "·",
            *([percent(row["forms"]["fields"]["value"]) if row["forms"] else "·"] if forms else []),
            *(percent(row[trouble] / row["answered"]) for trouble in troubles),
            figure(row["seconds_per_page"]["value"], 1),
            tokens_of(row),
        ]
        for name, row in read
    ]
    return [*header, "s/page", "tokens"], rows


def troubles_of(read: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Which of loops and empty answers there were: where there were none, no column says so."""
    return [trouble for trouble in ("loops", "empty") if any(row[trouble] for _, row in read)]


def tokens_of(row: Mapping[str, Any]) -> str:
    """The tokens of a prompt with its pictures, and of an answer, on average."""
    return f"{figure(row['prompt_tokens_per_page'])}+{figure(row['tokens_per_page'])}"


def _by_kind(read: Sequence[tuple[str, Mapping[str, Any]]]) -> RenderableType:
    kinds = dict.fromkeys(kind for _, row in read for kind in row["kinds"])
    rows = []
    for kind in kinds:
        cells = [row["kinds"].get(kind) for _, row in read]
        rows.append([kind, str(max(c["pages"] for c in cells if c)), *(percent(c["cer"]) if c else "·" for c in cells)])
    return grid(["CER by kind", "pages", *(name for name, _ in read)], rows)


def comparison(names: Sequence[str], one: Mapping[str, Any], what: str, verb: str, how: str) -> str:
    """Two cells beside each other in a sentence."""
    best, other, count = names[one["best"]], names[one["other"]], one["pages"]
    difference, p = one["difference"], f"p = {one['p']:.2g}"
    if one["same"]:
        return f"{best} and {other} score the same on each of {count} {what}."
    if not one["shown"]:
        return f"No difference shown between {best} and {other} (paired, {count} {what}, {p})."
    ends = f"{100 * difference['low']:.1f} to {100 * difference['high']:.1f}"
    by = f"{100 * difference['value']:.1f} points ({ends}; paired, {count} {what}, {p})"
    return f"{best} {verb} {other}: {how} {by}."


def _example(example: Mapping[str, Any]) -> str:
    where = f"{example['page']}" + (f" {example['field']}" if "field" in example else "")
    return f"  {where}: {printable(example['truth'])}  →  {printable(example['read'])}"


def printable(text: str) -> str:
    """What stands on a page, or was read from it, is nobody's command to this terminal."""
    return "".join(c if c.isprintable() else " " for c in text) or "(nothing)"


def _about(data: Mapping[str, Any]) -> str:
    engine, settings = data["engine"], data["settings"]
    read = [row for row in data["results"] if row["answered"]]
    told = f"{len(data['pages'])} pages: {data['set']}; ± is half of the 95 % interval (bootstrap over pages)"
    if read and not troubles_of([("", row) for row in read]):
        told += "; no loops, no empty answers"
    if settings["strict"]:
        told += "; strict"
    return told if engine is None else f"{told}; {engine['name']} {engine['version']}"
