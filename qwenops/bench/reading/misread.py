"""What was misread, cut out of its page: where truth and answer first part, with a little before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from qwenops.bench.reading.score import PageScore, even, fields_of, plain
from qwenops.bench.reading.types import Answer, Page

_AROUND: Final = 18
_LONGEST: Final = 60


def misread(
    pages: Sequence[Page], scores: Mapping[str, PageScore], answers: Mapping[str, Answer], most: int
) -> list[dict[str, Any]]:
    """Examples of at most so many pages, of several kinds where there are: first those that were nearly right.

    A page that was read as something else altogether says less than one wrong letter does.
    """
    wrong = sorted((p for p in pages if scores[p.id].wrong), key=lambda p: (scores[p.id].cer >= 0.9, scores[p.id].cer))
    first_of_kind = {page.kind: page for page in reversed(wrong)}
    chosen = sorted(first_of_kind.values(), key=wrong.index) + [p for p in wrong if p not in first_of_kind.values()]
    return [{"page": page.id, "kind": page.kind, **_where(page, answers[page.id])} for page in chosen[:most]]


def _where(page: Page, answer: Answer) -> dict[str, Any]:
    if page.fields is None:
        return first_difference(even(page.truth), even(answer.text))
    got = fields_of(answer.text)
    for name, value in page.fields.items():
        if even(plain(got.get(name))) != even(value):
            return {"field": name, "truth": value[:_LONGEST], "read": plain(got.get(name))[:_LONGEST]}
    return first_difference(even(page.truth), even(answer.text))


def first_difference(truth: str, read: str) -> dict[str, str]:
    """The first edited stretch of a text with what stands around it, and what the answer has in its place."""
    from rapidfuzz.distance import Levenshtein

    edits = [op for op in Levenshtein.opcodes(truth, read) if op.tag != "equal"]
    if not edits:
        return {"truth": "", "read": ""}
    first = last = edits[0]
    for op in edits[1:]:
        if op.src_start - last.src_end > 3 or op.src_end - first.src_start > _LONGEST:
            break
        last = op
    return {
        "truth": _cut(truth, first.src_start, last.src_end),
        "read": _cut(read, first.dest_start, last.dest_end),
    }


def _cut(text: str, start: int, end: int) -> str:
    low, high = max(0, start - _AROUND), min(len(text), end + _AROUND)
    if high - low > 2 * _LONGEST:
        high = low + 2 * _LONGEST
    return ("…" if low else "") + text[low:high] + ("…" if high < len(text) else "")
