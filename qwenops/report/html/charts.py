"""Which chart a part of the report gets, drawn from the same data as its table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from markupsafe import Markup

from qwenops.report.html.svg import (
    Axis,
    Point,
    Series,
    apart,
    labelled,
    legend,
    nice,
    reach,
    scale,
    stacked,
    xy,
)
from qwenops.report.known import PART_NAMES, figure, grouped, memory_settings
from qwenops.report.plain import one_line
from qwenops.units import GIB, human

Rows = Sequence[Mapping[str, Any]]
_SHORT_LABEL = 28


class Marks:
    """A variant's number, the same in every chart of the page."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        found: dict[str, int] = {}
        for part in ("speed", "quality", "reading", "vision"):
            for row in data[part]:
                found.setdefault(row["label"], len(found))
        self._numbers = found

    def series(self, label: str, points: Sequence[Point] = ()) -> Series:
        """One variant's series."""
        return Series(one_line(label, _SHORT_LABEL), self._numbers.get(label, 0), tuple(points))


def memory_chart(rows: Rows) -> Markup:
    """Two bars a load on one scale: as predicted, and as it came."""
    most = max(max(row["predicted_bytes"], row["measured_bytes"]) for row in rows)
    used = list(dict.fromkeys(p["part"] for row in rows for p in row["parts"]))
    blocks = []
    for row in rows:
        before = [(p["part"], p["predicted_bytes"]) for p in row["parts"]]
        if row["source"] == "bench":
            after = [("peak", row["measured_bytes"])]
        else:
            after = [(p["part"], p["measured_bytes"] or 0) for p in row["parts"]]
        off = ""
        if row["compared"]:
            difference = row["compared"]["measured_bytes"] - row["compared"]["predicted_bytes"]
            off = "as predicted" if difference == 0 else f"{'+' if difference > 0 else '−'}{human(abs(difference))}"
        blocks.append(
            Markup(
                '<div class="pair"><p class="head"><bdi>{n}</bdi> <span class="faint">{s}</span></p>'
                '<div class="row"><span class="tag">predicted</span>{b}<span class="val">{bv}</span></div>'
                '<div class="row"><span class="tag">{w}</span>{a}<span class="val">{av}{o}</span></div></div>'
            ).format(
                n=one_line(row["label"], 60),
                s=memory_settings(row),
                b=stacked(before, most, _said("predicted", before, row["predicted_bytes"])),
                bv=human(row["predicted_bytes"]),
                w="peak" if row["source"] == "bench" else "measured",
                a=stacked(after, most, _said("measured", after, row["measured_bytes"])),
                av=human(row["measured_bytes"]),
                o=Markup("<small>{}</small>").format(off) if off else "",
            )
        )
    names = used + (["peak"] if any(row["source"] == "bench" for row in rows) else [])
    return Markup('<div class="pairs">{}</div>{}').format(Markup("").join(blocks), parts_legend(names))


def parts_legend(parts: Sequence[str]) -> Markup:
    """Which pattern is which part of memory."""
    items = Markup("").join(
        Markup(
            '<li><svg class="key" width="22" height="14" aria-hidden="true"><rect width="22" height="14" '
            'fill="url(#p-{p})"/></svg>{n}</li>'
        ).format(p=part, n=PART_NAMES.get(part, "peak of a benchmark"))
        for part in parts
    )
    return Markup('<ul class="legend">{}</ul>').format(items)


def _said(word: str, parts: Sequence[tuple[str, int]], total: int) -> str:
    each = ", ".join(f"{PART_NAMES.get(p, p)} {human(n)}" for p, n in parts if n)
    return f"{word} {human(total)}: {each}"


def speed_charts(rows: Rows, marks: Marks) -> list[Markup]:
    """Prompt and generation by depth where several depths were measured, else a line a variant; then the rest."""
    drawn = []
    for number, ((device, engine), group) in enumerate(grouped(rows, lambda r: (r["device"], r["engine"]))):
        where = ", ".join(one_line(word) for word in (device, engine) if word)
        for sort, word in (("prompt", "Prompt"), ("generation", "Generation")):
            found = [r for r in group if r["sort"] == sort]
            if not found:
                continue
            title = f"{word} speed, {where}" if where else f"{word} speed"
            if len({r["depth"] for r in found}) > 1:
                drawn.append(_by_depth(f"speed-{number}-{sort}", title, found, marks))
            else:
                drawn.append(spans(title, "tokens per second", found, marks, named=lambda r: str(r["test"])))
        for test, others in grouped([r for r in group if r["sort"] == "other"], lambda r: (r["test"], r["unit"])):
            drawn.append(spans(f"{one_line(test[0])}, {where}", one_line(test[1], 12), others, marks))
    return drawn


def _by_depth(name: str, title: str, rows: Rows, marks: Marks) -> Markup:
    blocks = []
    for number, ((tokens,), group) in enumerate(grouped(rows, lambda r: (r["tokens"],))):
        series = [
            marks.series(label, [Point(r["depth"], r["value"], r["low"], r["high"]) for r in own])
            for (label,), own in grouped(group, lambda r: (r["label"],))
        ]
        depths = sorted({r["depth"] for r in group})
        x = Axis("tokens already in the context", 0, max(depths), apart(_depths(depths), 0, max(depths)))
        y = _axis("tokens per second", 0, max(r["high"] for r in group))
        says = "; ".join(
            f"{s.name}: " + ", ".join(f"{figure(p.y)} at depth {p.x:.0f}" for p in s.points) for s in series
        )
        full = f"{title}, {tokens} tokens"
        chart = xy(f"{name}-{number}", full, says, series, x, y, joined=True)
        blocks.append(_figure(full, chart, legend(series)))
    return Markup("").join(blocks)


def _depths(depths: Sequence[int]) -> Iterator[tuple[float, str]]:
    for depth in depths:
        yield float(depth), f"{depth // 1024}k" if depth and depth % 1024 == 0 else str(depth)


def _axis(title: str, low: float, high: float, *, by: float = 1) -> Axis:
    ticks = nice(low / by, high / by)
    return Axis(title, ticks[0] * by, ticks[-1] * by, tuple((t * by, said) for t, said in labelled(ticks)))


def spans(title: str, unit: str, rows: Rows, marks: Marks, named: Callable[[Any], str] | None = None) -> Markup:
    """A line a variant with its interval, on one scale from nothing on."""
    axis = _axis(unit, 0, max(r["high"] for r in rows))
    short = {"tokens per second": "t/s"}.get(unit, unit)
    lines = []
    for r in rows:
        said = f"{one_line(r['label'])}: {figure(r['value'])} {unit}, {figure(r['low'])} to {figure(r['high'])}"
        test = Markup(" <small>{}</small>").format(named(r)) if named else ""
        series = marks.series(r["label"])
        lines.append(
            Markup(
                '<div class="row"><span class="tag wide"><bdi>{n}</bdi>{t}</span>{b}'
                '<span class="val">{v} {u}</span></div>'
            ).format(
                n=series.name,
                t=test,
                b=reach(r["value"], r["low"], r["high"], axis, series.number, said),
                v=f"{r['value']:.1f}" if unit == "%" else figure(r["value"]),
                u=short,
            )
        )
    body = Markup(
        '<div class="spans">{}<div class="row"><span class="tag"></span>{}<span class="val"></span></div></div>'
    )
    body = body.format(Markup("").join(lines), scale(axis))
    return _figure(title, body)


def quality_charts(rows: Rows, marks: Marks) -> list[Markup]:
    """Divergence against size, the front ringed and joined; only what has both can stand there."""
    drawn = []
    for number, (_, group) in enumerate(grouped(rows, lambda r: (r["reference"], r["ctx"]))):
        placed = [_at_nothing(r) for r in group if r["file_bytes"] and (r["kld_mean"] is not None or r["is_reference"])]
        if len(placed) < 2:
            continue
        name, said = f"quality-{number}", "KL divergence from the reference, less is better"
        series = [
            marks.series(
                r["label"],
                [
                    Point(
                        r["file_bytes"],
                        r["kld_mean"],
                        max(0.0, r["kld_mean"] - 1.96 * (r["kld_error"] or 0)),
                        r["kld_mean"] + 1.96 * (r["kld_error"] or 0),
                        one_line(r["label"], 18) + (" (ref.)" if r["is_reference"] else ""),
                        bool(r.get("front")),
                    )
                ],
            )
            for r in placed
        ]
        sizes = [r["file_bytes"] for r in placed]
        most, least = max(sizes), min(sizes)
        room = (most - least) * 0.15 or most * 0.1
        unit, word = (GIB, "GiB") if most > 2 * GIB else (1024**2, "MiB")
        x = _axis(f"file size, {word}", max(0, least - room), most + room, by=unit)
        y = _axis("KL divergence", 0, max(p.high for s in series for p in s.points))
        says = f"{said}. " + "; ".join(
            f"{one_line(r['label'])}: {figure(r['kld_mean'])} at {human(r['file_bytes'])}"
            + (", on the front" if r.get("front") else "")
            for r in placed
        )
        chart = xy(name, "Quality against size", says, series, x, y, joined=False)
        ring = Markup(
            '<ul class="legend"><li><svg class="key" width="24" height="24" aria-hidden="true"><circle class="ring" '
            'cx="12" cy="12" r="10"/></svg>on the front: nothing is shown to beat it in size and closeness</li></ul>'
        )
        drawn.append(_figure(said, chart, ring if any(r.get("front") for r in placed) else Markup("")))
    return drawn


def _at_nothing(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The reference has no divergence from itself."""
    return {**row, "kld_mean": 0.0} if row["is_reference"] else row


def reading_charts(rows: Rows, marks: Marks) -> list[Markup]:
    """The share of wrong characters by variant, a chart a set."""
    drawn = []
    for (test,), group in grouped([r for r in rows if r["cer"]], lambda r: (r["test"],)):
        lines = [
            {"label": r["label"], "said": r, **{k: 100 * r["cer"][k] for k in ("value", "low", "high")}} for r in group
        ]
        asked = {"image_tokens": "{} tokens", "temperature": "at {}"}
        varied = [key for key in asked if len({r[key] for r in group}) > 1]
        named = partial(_asked, {key: asked[key] for key in varied}) if varied else None
        drawn.append(spans(f"Wrong characters, {one_line(test)}, less is better", "%", lines, marks, named=named))
    return drawn


def _asked(words: Mapping[str, str], line: Mapping[str, Any]) -> str:
    """How a variant was asked, in what differs between lines."""
    return ", ".join(word.format(line["said"][key]) for key, word in words.items())


def vision_charts(rows: Rows, marks: Marks) -> list[Markup]:
    """The share of right answers by variant, a chart a test."""
    drawn = []
    for (test,), group in grouped([r for r in rows if r["right"]], lambda r: (r["test"],)):
        lines = [{"label": r["label"], **{k: 100 * r["right"][k] for k in ("value", "low", "high")}} for r in group]
        drawn.append(spans(f"Right answers, {one_line(test)}, more is better", "%", lines, marks))
    return drawn


def _figure(title: str, *parts: Markup) -> Markup:
    return Markup("<figure><figcaption>{}</figcaption>{}</figure>").format(title, Markup("").join(parts))
