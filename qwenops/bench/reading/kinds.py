"""What the made pages look like, a function a kind: from a source of chance to a picture and what stands on it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from qwenops.bench.reading.ink import face
from qwenops.bench.reading.paper import Paper, blurred, compressed, noisy, turned, wrapped
from qwenops.bench.reading.words import code, money, name, number, paragraph, script

if TYPE_CHECKING:
    from PIL.Image import Image

WIDTH: Final = 896  # 28 cells of 32 pixels, 32 of 28
_MARGIN: Final = 56
_TALLEST: Final = 1400
_FONTS: Final = ("sans", "humanist", "mono", "sans-bold", "humanist-bold", "typewriter")
_WIDE_FONTS: Final = ("sans", "humanist", "mono")  # those with Greek and Cyrillic


@dataclass(frozen=True)
class Drawn:
    """A picture, the text on it in reading order, a form's fields, and how it was made."""

    image: Image
    truth: str
    fields: Mapping[str, str] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


def _text_page(
    chance: random.Random,
    of: str,
    fonts: tuple[str, ...],
    sizes: tuple[int, int],
    least: int,
    ink: int = 0,
    ground: int = 255,
) -> Drawn:
    """A heading now and then, and one or two paragraphs."""
    font, size = chance.choice(fonts), chance.randint(*sizes)
    paper = Paper(WIDTH, _TALLEST, ink, ground)
    base, truth = _MARGIN + size, []
    if chance.random() < 0.5 and of not in ("chinese", "accents"):
        title = f"{number(chance)}. {name(chance, of)}"
        paper.text(_MARGIN, base, title, font, size + 6)
        truth.append(title)
        base += 2 * size + 10
    for _ in range(chance.choice((1, 2))):
        for line in wrapped(paragraph(chance, of, least), font, size, WIDTH - 2 * _MARGIN):
            paper.text(_MARGIN, base, line, font, size)
            truth.append(line)
            base += size * 3 // 2
        base += size
    # a Latin heading has no blanks to lose at a line's end; Chinese has none at all
    return Drawn(paper.cropped(base + _MARGIN - size), "\n".join(truth), about={"font": font, "size": size})


def clean(chance: random.Random) -> Drawn:
    """Black on white, the sizes of a letter."""
    return _text_page(chance, "latin", _FONTS, (18, 28), 150)


def small(chance: random.Random) -> Drawn:
    """Print as small as it gets in a contract."""
    return _text_page(chance, "latin", ("sans", "humanist", "mono"), (11, 13), 420)


def contrast(chance: random.Random) -> Drawn:
    """Grey on grey, or light on dark."""
    ground = chance.choice((245, 225, 200, 70, 40))
    ink = ground - chance.randint(55, 80) if ground > 128 else ground + chance.randint(55, 80)
    drawn = _text_page(chance, "latin", _FONTS, (18, 26), 150, ink, ground)
    return Drawn(drawn.image, drawn.truth, about={**drawn.about, "ink": ink, "ground": ground})


def noise(chance: random.Random) -> Drawn:
    """A copy of a copy: blurred, grainy, through JPEG."""
    drawn = _text_page(chance, "latin", _FONTS, (18, 26), 150, 40, 235)
    blur, grain, quality = chance.randint(0, 2), chance.randint(10, 30), chance.randint(15, 40)
    image = compressed(noisy(blurred(drawn.image, blur), grain, chance.randrange(1 << 31)), quality)
    return Drawn(image, drawn.truth, about={**drawn.about, "blur": blur, "grain": grain, "jpeg": quality})


def rotated(chance: random.Random) -> Drawn:
    """Laid askew on the glass, by up to eight degrees."""
    drawn = _text_page(chance, "latin", _FONTS, (18, 26), 150)
    tenths = chance.choice((-1, 1)) * chance.randint(15, 80)
    return Drawn(turned(drawn.image, tenths, 255), drawn.truth, about={**drawn.about, "degrees": tenths / 10})


def columns(chance: random.Random) -> Drawn:
    """Two or three columns, read one after another."""
    count, font, size = chance.choice((2, 2, 3)), chance.choice(("sans", "humanist")), chance.randint(16, 20)
    gap = 44
    width = (WIDTH - 2 * _MARGIN - gap * (count - 1)) // count
    paper = Paper(WIDTH, _TALLEST)
    title = f"{name(chance)} {name(chance)}"
    paper.centre(_MARGIN + 20, title, "sans-bold", 28)
    top, truth, lowest = _MARGIN + 80, [title], 0
    for column in range(count):
        base = top
        for line in wrapped(paragraph(chance, "latin", 170), font, size, width):
            paper.text(_MARGIN + column * (width + gap), base, line, font, size)
            truth.append(line)
            base += size * 3 // 2
        lowest = max(lowest, base)
    about = {"columns": count, "font": font, "size": size}
    return Drawn(paper.cropped(lowest + _MARGIN - size), "\n".join(truth), about=about)


def table(chance: random.Random) -> Drawn:
    """Names and figures in rows, ruled or not, read row by row."""
    count, rows, size = chance.randint(3, 5), chance.randint(5, 9), chance.randint(16, 20)
    font, ruled = chance.choice(("sans", "humanist", "mono")), chance.random() < 0.5
    heads = ["Name", *chance.sample(script("goods")["columns"], count - 1)]
    body = [[name(chance), *(_figure(chance) for _ in heads[1:])] for _ in range(rows)]
    step, high = (WIDTH - 2 * _MARGIN) // count, size * 2
    paper, truth = Paper(WIDTH, _TALLEST), []
    for row, cells in enumerate([heads, *body]):
        base = _MARGIN + row * high + size * 3 // 2
        for column, cell in enumerate(cells):
            bold = "sans-bold" if row == 0 else font
            edge = _MARGIN + column * step
            if column:
                paper.right(edge + step - 12, base, cell, bold, size)
            else:
                paper.text(edge + 12, base, cell, bold, size)
        truth.append(" ".join(cells))
    bottom = _MARGIN + (rows + 1) * high
    if ruled:
        for row in range(rows + 2):
            paper.rule(_MARGIN, _MARGIN + row * high, _MARGIN + count * step, _MARGIN + row * high + 1)
        for column in range(count + 1):
            paper.rule(_MARGIN + column * step, _MARGIN, _MARGIN + column * step + 1, bottom)
    else:
        paper.rule(_MARGIN, _MARGIN + high, _MARGIN + count * step, _MARGIN + high + 2)
    about = {"columns": count, "rows": rows, "ruled": ruled, "font": font, "size": size}
    return Drawn(paper.cropped(bottom + _MARGIN), "\n".join(truth), about=about)


def receipt(chance: random.Random) -> Drawn:
    """A till's slip, to be read in full."""
    drawn = _slip(chance)
    return Drawn(drawn.image, drawn.truth, about=drawn.about)


def fields(chance: random.Random) -> Drawn:
    """A till's slip, of which five fields are asked for as JSON."""
    return _slip(chance)


def codes(chance: random.Random) -> Drawn:
    """Serial numbers, accounts, dates, amounts: nothing that a neighbour gives away."""
    font, size = chance.choice(_FONTS), chance.randint(18, 26)
    paper, base, truth = Paper(WIDTH, _TALLEST), _MARGIN + size, []
    for _ in range(chance.randint(7, 10)):
        line = code(chance)
        paper.text(_MARGIN, base, line, font, size)
        truth.append(line)
        base += size * 2
    return Drawn(paper.cropped(base), "\n".join(truth), about={"font": font, "size": size})


def accents(chance: random.Random) -> Drawn:
    """German, French and Spanish, mixed."""
    return _text_page(chance, "accents", _FONTS, (18, 26), 150)


def cyrillic(chance: random.Random) -> Drawn:
    """Russian."""
    return _text_page(chance, "cyrillic", _WIDE_FONTS, (18, 26), 150)


def greek(chance: random.Random) -> Drawn:
    """Greek."""
    return _text_page(chance, "greek", _WIDE_FONTS, (18, 26), 150)


def chinese(chance: random.Random) -> Drawn:
    """Simplified Chinese."""
    return _text_page(chance, "chinese", ("chinese",), (20, 30), 70)


KINDS: Final[Mapping[str, Callable[[random.Random], Drawn]]] = {
    made.__name__: made
    for made in (
        *(clean, small, contrast, noise, rotated, columns, table),
        *(receipt, fields, codes, accents, cyrillic, greek, chinese),
    )
}
"""Every kind by its name, in the order in which a set takes them in turn."""


def _figure(chance: random.Random) -> str:
    makes = (number(chance), money(chance.randrange(100, 99999)), f"{chance.randrange(1, 100)} %", f"-{number(chance)}")
    return chance.choice(makes)


def _slip(chance: random.Random) -> Drawn:
    goods, font, size, wide = script("goods"), "mono", chance.randint(18, 22), 520
    said = {
        "company": f"{name(chance)} {chance.choice(goods['shops'])}",
        "address": f"{number(chance)} {chance.choice(goods['streets'])}, {name(chance)}",
        "date": f"{1 + chance.randrange(28):02}/{1 + chance.randrange(12):02}/{2015 + chance.randrange(12)}",
        "number": f"{chance.randrange(1000, 9999)}-{chance.randrange(100, 999)}",
    }
    paper = Paper(wide, _TALLEST, 30, 250)
    truth, base, high = [said["company"], said["address"]], 60, size * 3 // 2
    paper.centre(base, said["company"], "sans-bold", size + 4)
    paper.centre(base + high, said["address"], font, size - 4)
    base += 3 * high
    left, right = 36, wide - 36
    paper.text(left, base, f"Date {said['date']}", font, size - 2)
    paper.right(right, base, f"No {said['number']}", font, size - 2)
    truth.append(f"Date {said['date']} No {said['number']}")
    total = 0
    for item in chance.sample(goods["names"], chance.randint(4, 8)):
        base += high
        pieces, cents = chance.choice((1, 1, 2, 3)), chance.randrange(45, 2400)
        total += pieces * cents
        paper.text(left, base, f"{pieces} x {item}", font, size)
        paper.right(right, base, money(pieces * cents), font, size)
        truth.append(f"{pieces} x {item} {money(pieces * cents)}")
    base += high // 2
    paper.rule(left, base, right, base + 2)
    base += high
    said["total"] = money(total)
    paper.text(left, base, "TOTAL", "sans-bold", size + 2)
    paper.right(right, base, said["total"], "sans-bold", size + 2)
    truth.append(f"TOTAL {said['total']}")
    base += 2 * high
    paid = chance.choice(("Paid by card", "Paid in cash", "Thank you, come again"))
    paper.centre(base, paid, font, size - 4)
    truth.append(paid)
    tenths = chance.choice((0, 0, chance.choice((-1, 1)) * chance.randint(5, 25)))
    image = paper.cropped(base + 50)
    image = turned(image, tenths, 250) if tenths else image
    return Drawn(image, "\n".join(truth), said, {"size": size, "degrees": tenths / 10})


def letters_missing(kind: str, drawn: Drawn) -> str:
    """Characters of a page that its font has not: none, unless a word list was changed."""
    fonts = [drawn.about["font"]] if "font" in drawn.about else ["mono"]
    return "".join(sorted({c for c in drawn.truth if not all(face(f).covers(c) for f in fonts)}))
