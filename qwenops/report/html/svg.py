"""Charts as SVG whose places are shares of its width and whose text keeps its size, so that one drawing serves a phone
and a desktop. Series differ by shape and dash as well as by colour."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

_NARROW_PIXELS = 250
"""The plot's width on a phone of 360 pixels: what does not collide there collides nowhere."""
_LETTER_PIXELS = 7
_LINE_PIXELS = 15
_TICK_PIXELS = 34
SHAPES = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0Z",
    "M-5-5H5V5H-5Z",
    "M0-6L6 5H-6Z",
    "M0-6.5L6.5 0L0 6.5L-6.5 0Z",
    "M-6-5H6L0 6Z",
    "M-2-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z",
)
DASHES = ("none", "6 4", "2 3", "9 3 2 3", "12 4", "4 2")


@dataclass(frozen=True)
class Axis:
    """A linear scale from `low` to `high`, with the ticks that are labelled."""

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    def share(self, value: float) -> float:
        """Where a value lies, in percent of the axis."""
        return 100 * (value - self.low) / ((self.high - self.low) or 1)


@dataclass(frozen=True)
class Point:
    """A value with the edges of its interval; `label` stands beside it."""

    x: float
    y: float
    low: float
    high: float
    label: str = ""
    marked: bool = False


@dataclass(frozen=True)
class Series:
    """Points of one variant; `number` gives it shape, dash and colour, the same in every chart."""

    name: str
    number: int
    points: tuple[Point, ...] = field(default=())


def nice(low: float, high: float, count: int = 4) -> tuple[float, ...]:
    """Round values from at or below `low` to at or above `high`, about `count` of them."""
    if high <= low:
        high = low + (abs(low) or 1)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return tuple(round(n * step, 12) for n in range(first, last + 1))


def labelled(ticks: Sequence[float]) -> tuple[tuple[float, str], ...]:
    """Ticks with as many digits as their steps need, the same for all."""
    digits = next(d for d in range(12) if all(math.isclose(round(t, d), t, abs_tol=1e-12) for t in ticks))
    return tuple((t, f"{t:,.{digits}f}".replace(",", " ")) for t in ticks)


def apart(ticks: Iterable[tuple[float, str]], low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Ticks that leave each other room on a phone; the first and the last always stay."""
    ticks = list(ticks)
    kept = [ticks[0]]
    for tick in ticks[1:]:
        between = (tick[0] - kept[-1][0]) / ((high - low) or 1) * _NARROW_PIXELS
        if between >= _TICK_PIXELS:
            kept.append(tick)
        elif tick is ticks[-1] and len(kept) > 1:
            kept[-1] = tick
    return tuple(kept)


def xy(name: str, title: str, says: str, series: Sequence[Series], x: Axis, y: Axis, *, joined: bool) -> Markup:
    """Points with intervals over two axes, joined along x or each with its label; an image with title and words."""
    height = 280
    parts: list[Markup] = [_frame(x, y)]
    placed: list[tuple[float, float, float, float]] = []
    for one in series:
        for point in one.points:
            px, py = x.share(point.x) * _NARROW_PIXELS / 100, (100 - y.share(point.y)) * height / 100
            placed.append((px - 7, py - 7, px + 7, py + 7))
    for one in series:
        points = sorted(one.points, key=lambda p: p.x)
        if joined:
            parts += [_joined(a, b, x, y, one.number) for a, b in itertools.pairwise(points)]
        parts += [_dot(p, x, y, one.number) for p in points]
        parts += [_label(p, x, y, height, placed) for p in points if p.label]
    return Markup(
        '<svg class="plot" height="{h}" role="img" aria-labelledby="{n}-t {n}-d">'
        '<title id="{n}-t">{t}</title><desc id="{n}-d">{d}</desc>{p}</svg>'
    ).format(h=height, n=name, t=title, d=says, p=Markup("").join(parts))


def _frame(x: Axis, y: Axis) -> Markup:
    parts = []
    for value, label in y.ticks:
        at = 100 - y.share(value)
        parts.append(
            Markup(
                '<line class="grid" x1="0" x2="100%" y1="{a:.2f}%" y2="{a:.2f}%"/>'
                '<text class="tick" x="-8" y="{a:.2f}%" dy="4" text-anchor="end">{t}</text>'
            ).format(a=at, t=label)
        )
    for value, label in x.ticks:
        at = x.share(value)
        parts.append(
            Markup(
                '<line class="grid" x1="{a:.2f}%" x2="{a:.2f}%" y1="0" y2="100%"/>'
                '<svg class="at" x="{a:.2f}%" y="100%"><text class="tick" y="18" text-anchor="middle">{t}</text></svg>'
            ).format(a=at, t=label)
        )
    parts.append(
        Markup(
            '<svg class="at" x="50%" y="100%"><text class="axis" y="38" text-anchor="middle">{x}</text></svg>'
            '<text class="axis" x="-52" y="-14">{y}</text>'
        ).format(x=x.title, y=y.title)
    )
    return Markup("").join(parts)


def _joined(a: Point, b: Point, x: Axis, y: Axis, number: int) -> Markup:
    return Markup(
        '<line class="join s{n}" x1="{a:.2f}%" y1="{b:.2f}%" x2="{c:.2f}%" y2="{d:.2f}%" stroke-dasharray="{e}"/>'
    ).format(
        n=number % len(SHAPES),
        a=x.share(a.x),
        b=100 - y.share(a.y),
        c=x.share(b.x),
        d=100 - y.share(b.y),
        e=DASHES[number % len(DASHES)],
    )


def _dot(p: Point, x: Axis, y: Axis, number: int) -> Markup:
    at, middle = x.share(p.x), 100 - y.share(p.y)
    reach = ""
    if p.high > p.low:
        reach = Markup('<line class="reach s{n}" x1="{a:.2f}%" x2="{a:.2f}%" y1="{h:.2f}%" y2="{l:.2f}%"/>').format(
            n=number % len(SHAPES), a=at, h=100 - y.share(p.high), l=100 - y.share(p.low)
        )
    ring = Markup('<circle class="ring" r="10"/>') if p.marked else ""
    return Markup('{r}<svg class="at" x="{a:.2f}%" y="{m:.2f}%">{o}{s}</svg>').format(
        r=reach, a=at, m=middle, o=ring, s=shape(number)
    )


def shape(number: int) -> Markup:
    """A series' mark around the origin."""
    return Markup('<path class="dot s{n}" d="{d}"/>').format(n=number % len(SHAPES), d=SHAPES[number % len(SHAPES)])


def _label(p: Point, x: Axis, y: Axis, height: int, placed: list[tuple[float, float, float, float]]) -> Markup:
    """A point's label where it covers nothing: right, left, above or below; the least bad where all is full."""
    at, middle = x.share(p.x), 100 - y.share(p.y)
    px, py = at * _NARROW_PIXELS / 100, middle * height / 100
    wide = _LETTER_PIXELS * len(p.label)
    choices = [
        (dx, dy, anchor)
        for dy in (0, -18, 20, -34, 36)
        for dx, anchor in (((12, "start"), (-12, "end")) if dy == 0 else ((0, "middle"), (8, "start"), (-8, "end")))
    ]

    def box(dx: float, dy: float, anchor: str) -> tuple[float, float, float, float]:
        left = px + dx - {"start": 0.0, "end": wide, "middle": wide / 2}[anchor]
        return (left, py + dy - _LINE_PIXELS / 2, left + wide, py + dy + _LINE_PIXELS / 2)

    def cost(choice: tuple[float, float, str]) -> float:
        b = box(*choice)
        outside = (
            max(0.0, -46 - b[0]) + max(0.0, b[2] - _NARROW_PIXELS - 12) + max(0.0, -b[1]) + max(0.0, b[3] - height)
        )
        return 10 * outside + sum(_overlap(b, other) for other in placed)

    best = min(choices, key=cost)
    placed.append(box(*best))
    return Markup(
        '<svg class="at" x="{a:.2f}%" y="{m:.2f}%">'
        '<text class="name" x="{x}" y="{y}" text-anchor="{w}">{t}</text></svg>'
    ).format(a=at, m=middle, x=best[0], y=best[1] + 4, w=best[2], t=p.label)


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    return wide * high if wide > 0 and high > 0 else 0.0


def legend(series: Sequence[Series]) -> Markup:
    """Which mark is whose."""
    items = Markup("").join(
        Markup(
            '<li><svg class="key" width="34" height="16" aria-hidden="true">'
            '<line class="join s{n}" x1="1" x2="33" y1="8" y2="8" stroke-dasharray="{e}"/>'
            '<svg class="at" x="17" y="8">{s}</svg></svg><bdi>{t}</bdi></li>'
        ).format(n=one.number % len(SHAPES), e=DASHES[one.number % len(DASHES)], s=shape(one.number), t=one.name)
        for one in series
    )
    return Markup('<ul class="legend">{}</ul>').format(items)


def stacked(parts: Iterable[tuple[str, int]], whole: int, says: str, *, line: int | None = None) -> Markup:
    """A bar of parts one after the other, as shares of `whole`; each part's own pattern, and a line where it ends."""
    drawn: list[Markup] = []
    at = 0.0
    for name, size in parts:
        wide = 100 * size / max(whole, 1)
        if wide > 0:
            drawn.append(
                Markup('<rect x="{a:.3f}%" y="1" width="{w:.3f}%" height="18" fill="url(#p-{n})"/>').format(
                    a=at, w=wide, n=name
                )
            )
        at += wide
        if 0 < at < 99.9 and wide > 0:
            drawn.append(Markup('<line class="seam" x1="{a:.3f}%" x2="{a:.3f}%" y1="1" y2="19"/>').format(a=at))
    if line is not None:
        drawn.append(
            Markup('<line class="limit" x1="{a:.3f}%" x2="{a:.3f}%" y1="0" y2="20"/>').format(
                a=100 * line / max(whole, 1)
            )
        )
    return Markup('<svg class="bar" height="20" role="img"><title>{t}</title>{p}</svg>').format(
        t=says, p=Markup("").join(drawn)
    )


def reach(value: float, low: float, high: float, axis: Axis, number: int, says: str) -> Markup:
    """A value with its interval on one line."""
    grid = Markup("").join(
        Markup('<line class="grid" x1="{a:.2f}%" x2="{a:.2f}%" y1="0" y2="100%"/>').format(a=axis.share(tick))
        for tick, _ in axis.ticks
    )
    line = ""
    if high > low:
        line = Markup(
            '<line class="reach s{n}" x1="{l:.2f}%" x2="{h:.2f}%" y1="50%" y2="50%"/>'
            '<line class="reach s{n}" x1="{l:.2f}%" x2="{l:.2f}%" y1="25%" y2="75%"/>'
            '<line class="reach s{n}" x1="{h:.2f}%" x2="{h:.2f}%" y1="25%" y2="75%"/>'
        ).format(n=number % len(SHAPES), l=axis.share(low), h=axis.share(high))
    return Markup(
        '<svg class="bar span" height="24" role="img"><title>{t}</title>{g}{l}<svg class="at" x="{a:.2f}%" y="50%">{s}'
        "</svg></svg>"
    ).format(t=says, g=grid, l=line, a=axis.share(value), s=shape(number))


def scale(axis: Axis) -> Markup:
    """The labels of an axis under rows of `reach`."""
    ticks = Markup("").join(
        Markup(
            '<svg class="at" x="{a:.2f}%" y="0"><text class="tick" y="13" text-anchor="middle">{t}</text></svg>'
        ).format(a=axis.share(value), t=label)
        for value, label in axis.ticks
    )
    return Markup('<svg class="bar span scale" height="18" aria-hidden="true">{}</svg>').format(ticks)


def patterns(parts: Sequence[str]) -> Markup:
    """Fills that tell parts apart without colour: each has its own lines or dots over its own shade."""
    marks = {
        "weights": "",
        "kv": "M-2 2L2-2M0 8L8 0M6 10L10 6",
        "state": "M2 2h1M6 6h1",
        "compute": "M2 0V8M6 0V8",
        "projector": "M0 0L8 8M8 0L0 8",
        "encoder": "M0 2H8M0 6H8",
        "output": "M0 4H8M4 0V8",
        "draft": "M-2 6L2 10M0 0L8 8M6-2L10 2",
        "overhead": "M4 4h1",
        "peak": "M0 4H8",
    }
    drawn = Markup("").join(
        Markup(
            '<pattern id="p-{n}" width="8" height="8" patternUnits="userSpaceOnUse"><rect class="c-{n}" width="8" '
            'height="8"/><path class="over" d="{d}"/></pattern>'
        ).format(n=part, d=marks[part])
        for part in parts
    )
    return Markup('<svg class="defs" aria-hidden="true" focusable="false"><defs>{}</defs></svg>').format(drawn)


def difference(truth: str, read: str, most: int = 320) -> Markup:
    """What was read of the first `most` characters, with what is missing struck out and what was added underlined."""
    import difflib

    said: list[Markup] = []
    for how, a, b, c, d in difflib.SequenceMatcher(None, truth, read, autojunk=False).get_opcodes():
        if a >= most or sum(map(len, said)) > 4 * most:
            said.append(escape("…"))
            break
        if how == "equal":
            said.append(escape(read[c : c + min(d - c, most - a)]))
            continue
        if a < b:
            said.append(Markup("<del>{}</del>").format(truth[a : min(b, most)]))
        if c < d:
            said.append(Markup("<ins>{}</ins>").format(read[c : min(d, c + most)]))
    return Markup("").join(said)
