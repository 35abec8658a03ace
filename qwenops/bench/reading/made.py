"""A set of made pages: the same for the same seed, and a longer one begins with the shorter one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from qwenops.bench.reading.ink import face
from qwenops.bench.reading.kinds import KINDS
from qwenops.bench.reading.paper import chance_of, png
from qwenops.bench.reading.types import Page, PageSet
from qwenops.errors import BadInput, PartMissing

OnDrawn = Callable[[int, int], None]


def made_pages(
    count: int, seed: int = 1, kinds: Sequence[str] = (), *, on_drawn: OnDrawn = lambda done, of: None
) -> PageSet:
    """`count` pages, the kinds in turn; page n of a kind depends on the seed and n alone.

    Raises BadInput for an unknown kind, PartMissing where no font is here for what was asked for. Without `kinds`, one
    whose font is missing is left out, with a note.
    """
    wanted, notes = _kinds(kinds)
    pages = []
    for place in range(count):
        kind, nth = wanted[place % len(wanted)], place // len(wanted) + 1
        pages.append(made_page(kind, nth, seed))
        on_drawn(place + 1, count)
    chosen = "" if not kinds else " " + "+".join(wanted)
    return PageSet(f"made s{seed}{chosen}", tuple(pages), notes=notes)


def made_page(kind: str, nth: int, seed: int) -> Page:
    """One page of a kind."""
    drawn = KINDS[kind](chance_of("qwenops page", kind, nth, seed))
    return Page(
        id=f"{kind}-{nth:03}",
        kind=kind,
        truth=drawn.truth,
        png=png(drawn.image),
        width=drawn.image.width,
        height=drawn.image.height,
        fields=drawn.fields,
        about=dict(drawn.about),
    )


def _kinds(asked: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    unknown = [kind for kind in asked if kind not in KINDS]
    if unknown:
        raise BadInput(f"there are no pages of kind {unknown[0]!r}", do=f"--kind: {', '.join(KINDS)}")
    if asked:
        return list(dict.fromkeys(asked)), ()
    face("sans")
    try:
        face("chinese")
    except PartMissing as missing:
        left = [kind for kind in KINDS if kind != "chinese"]
        return left, (f"no pages in Chinese: {missing.message} ({'; '.join(missing.do)})",)
    return list(KINDS), ()


def without_fields(page: Page) -> Page:
    """The page to be read in full, whatever it is a form of."""
    return replace(page, fields=None)
