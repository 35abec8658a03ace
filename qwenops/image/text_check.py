"""Whether the words in a picture are the words that were asked for: what a model read of it, against the quoted texts.

Texts are made alike before they are compared: NFC, any run of blanks and line ends is one blank (none between Chinese
characters), Markdown, thoughts and fences of the reading count for nothing (bench/reading/score.py, `even`); quotation
marks are taken off, and one kind of apostrophe and dash stands for all. Case, accents, digits and other punctuation
count. A reading is only as good as its reader: a model that reads what it expects can pass over a misspelt word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from qwenops.bench.reading.score import even, words_of
from qwenops.errors import BadInput, PartMissing
from qwenops.image.prompt import prompt_of

Verdict = Literal["right", "wrong", "missing"]
FaultKind = Literal["missing word", "wrong word", "extra word", "swapped order", "case"]

_UNLIKE: Final = 0.6
"""A text of which more than this share of the characters is wrong was not found at all."""
_FAR: Final = 12
"""Words: a longer text is looked for near its best alignment and not at every place."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a text: what was wanted and what stands there, "" where nothing does."""

    kind: FaultKind
    wanted: str
    read: str


@dataclass(frozen=True)
class TextVerdict:
    """One text that was to be seen: the best match in the reading, and its character error rate (0 to 1)."""

    text: str
    verdict: Verdict
    read: str
    cer: float
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class TextCheck:
    """A picture's texts in the order of the prompt, and what was read that nobody asked for."""

    texts: tuple[TextVerdict, ...]
    extra: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every text is right; extra text is told and does not make it wrong."""
        return all(one.verdict == "right" for one in self.texts)

    @property
    def rank(self) -> tuple[int, float, int]:
        """Less is better: texts that are not right, their mean error, characters that nobody asked for."""
        wrong = sum(one.verdict != "right" for one in self.texts)
        mean = sum(one.cer for one in self.texts) / max(1, len(self.texts))
        return wrong, mean, sum(map(len, self.extra))


def check_texts(texts: Sequence[str], read: str) -> TextCheck:
    """Compare the texts of a prompt with what was read: each gets the best place that is left, exact ones first."""
    whole = normal(read)
    reading = words_of(whole)
    spans = list(_spans(whole, reading))
    free = [True] * len(reading)
    wanted = [_words(text) for text in texts]
    places: dict[int, tuple[int, int]] = {}
    by_length = sorted(range(len(texts)), key=lambda i: -sum(map(len, wanted[i])))
    for exact in (True, False):
        for i in by_length:
            if i in places or not wanted[i]:
                continue
            place = _exact(wanted[i], reading, free) if exact else _nearest(wanted[i], reading, free)
            if place is not None:
                places[i] = place
                free[place[0] : place[1]] = [False] * (place[1] - place[0])
    verdicts = []
    for i, text in enumerate(texts):
        start, end = places.get(i, (0, 0))
        there = whole[spans[start][0] : spans[end - 1][1]] if end else ""
        verdicts.append(_verdict(text, wanted[i], reading[start:end], there))
    return TextCheck(tuple(verdicts), tuple(_runs(whole, spans, free)))


def texts_of(prompt: str) -> tuple[str, ...]:
    """The texts of a prompt that are to be seen. Raises BadInput where it has none in quotes."""
    texts = tuple(text for text in prompt_of(prompt).texts() if words_of(normal(text)))
    if not texts:
        raise BadInput(
            "the prompt has no words in quotes, so there is nothing to look for",
            do='put them in quotes: the sign above the door reads "OPEN"',
        )
    return texts


def best_of(checks: Sequence[TextCheck]) -> int:
    """The number of the best of several pictures of one prompt; the first of equals."""
    return min(range(len(checks)), key=lambda i: (checks[i].rank, i))


def normal(text: str) -> str:
    """A text as it is compared."""
    plain = re.sub(r"([\"“”„«»「」『』])[.,;:](?=\s|$)", r"\1", text)
    plain = re.sub(r"[\"“”„«»「」『』]", "", plain)
    plain = re.sub(r"[‘’ʼ`´]", "'", plain)
    return even(re.sub(r"[‐‑‒–—―]", "-", plain))


def _words(text: str) -> list[str]:
    return words_of(normal(text))


def _spans(text: str, words: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where the words of a text stand in it."""
    place = 0
    for word in words:
        start = text.index(word, place)
        place = start + len(word)
        yield start, place


def _exact(wanted: Sequence[str], reading: Sequence[str], free: Sequence[bool]) -> tuple[int, int] | None:
    n = len(wanted)
    for start in range(len(reading) - n + 1):
        if list(reading[start : start + n]) == list(wanted) and all(free[start : start + n]):
            return start, start + n
    return None


def _nearest(wanted: Sequence[str], reading: Sequence[str], free: Sequence[bool]) -> tuple[int, int] | None:
    """The run of free words that is most like the text, its words in any order; None where nothing is like it."""
    measure = _levenshtein()
    n, best, found = len(wanted), float("inf"), None
    spread = max(2, n // 5)
    texts = [form(wanted) for form in _FORMS]
    bag = Counter(word.casefold() for word in wanted)
    for start in _starts(wanted, reading, spread):
        for length in range(max(1, n - spread), n + spread + 1):
            if start + length > len(reading) or not all(free[start : start + length]):
                break
            got = reading[start : start + length]
            for form, text, cost in zip(_FORMS, texts, (0.0, 0.01, 0.02), strict=True):
                # of equals the run of the text's own length is taken
                extra = cost + abs(length - n) * 1e-6
                most = min(_UNLIKE, best - extra)
                edits = measure.distance(text, form(got), score_cutoff=max(0, int(most * len(text))))
                if edits / len(text) > most:
                    continue
                # a run that leaves a wanted word out is worse than one that has it and another beside it
                left_out = sum((bag - Counter(word.casefold() for word in got)).values()) / n
                if edits / len(text) + extra + left_out < best:
                    best, found = edits / len(text) + extra + left_out, (start, start + length)
    return found


def _levenshtein() -> Any:
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError:
        raise PartMissing("comparing words needs rapidfuzz", do="pip install rapidfuzz") from None
    return Levenshtein


def _together(words: Sequence[str]) -> str:
    return " ".join(words)


def _whatever_case(words: Sequence[str]) -> str:
    return " ".join(words).casefold()


def _in_any_order(words: Sequence[str]) -> str:
    return " ".join(sorted(words))


_FORMS: Final = (_together, _whatever_case, _in_any_order)
"""How a run may be like a text: as it stands, in another case, in another order; each a little worse than the last."""


def _starts(wanted: Sequence[str], reading: Sequence[str], spread: int) -> range:
    if len(wanted) <= _FAR:
        return range(len(reading))
    from rapidfuzz.fuzz import partial_ratio_alignment

    text, whole = " ".join(wanted), " ".join(reading)
    found = partial_ratio_alignment(text, whole)
    near = whole[: found.dest_start].count(" ") if found else 0
    return range(max(0, near - spread - 2), min(len(reading), near + spread + 3))


def _cer(wanted: str, got: str) -> float:
    return min(1.0, int(_levenshtein().distance(wanted, got)) / max(1, len(wanted)))


def _verdict(text: str, wanted: Sequence[str], got: Sequence[str], read: str) -> TextVerdict:
    if list(wanted) == list(got):
        return TextVerdict(text, "right", read, 0.0)
    if not got:
        return TextVerdict(text, "missing", "", 1.0, tuple(Fault("missing word", word, "") for word in wanted))
    return TextVerdict(text, "wrong", read, _cer(normal(text), read), tuple(_faults(wanted, got, text, read)))


def _faults(wanted: Sequence[str], got: Sequence[str], text: str, read: str) -> Iterator[Fault]:
    """What must be done to the words that were read; words that only changed places are told as one swap."""
    if Counter(wanted) == Counter(got):
        yield Fault("swapped order", normal(text), read)
        return
    for step in _levenshtein().opcodes(list(wanted), list(got)):
        left, right = wanted[step.src_start : step.src_end], got[step.dest_start : step.dest_end]
        if step.tag == "replace":
            for one, other in zip(left, right, strict=True):
                yield Fault("case" if one.casefold() == other.casefold() else "wrong word", one, other)
        elif step.tag == "delete":
            yield from (Fault("missing word", one, "") for one in left)
        elif step.tag == "insert":
            yield from (Fault("extra word", "", one) for one in right)


def _runs(whole: str, spans: Sequence[tuple[int, int]], free: Sequence[bool]) -> Iterator[str]:
    """What nobody asked for, a run of words at a time."""
    start: int | None = None
    for i, is_free in enumerate([*free, False]):
        if is_free and start is None:
            start = i
        elif not is_free and start is not None:
            yield whole[spans[start][0] : spans[i - 1][1]]
            start = None
