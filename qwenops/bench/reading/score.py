"""How far what was read is from what stands there: characters, words, fields, loops.

Both texts are made alike before they are compared. Always: NFC, and one kind of line end. Unless `strict`: what a code
fence around everything, thoughts, Markdown's marks for bold, headings and tables add counts for nothing, and any run
of blanks and line ends is one blank, or none between two Chinese characters. Case, accents and punctuation count.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any, Final

from qwenops.bench.reading.types import Answer, Page
from qwenops.ollama.repetition import repeated_end

_FENCED: Final = re.compile(r"\A\s*```[^\n`]*\n(.*?)\n?```\s*\Z", re.DOTALL)
_THOUGHTS: Final = re.compile(r"\A.*?</think>", re.DOTALL)
_RULE: Final = re.compile(r"^[ \t]*\|?[ \t]*:?-{2,}:?[ \t]*(\|[ \t]*:?-{2,}:?[ \t]*)*\|?[ \t]*$", re.MULTILINE)
_HEADING: Final = re.compile(r"^[ \t]*#{1,6}[ \t]+", re.MULTILINE)
_BOLD: Final = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*")
# Han with its extensions, kana, Hangul is left out: it has blanks between words
_IDEOGRAPH: Final = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\U00020000-\U0003ffff"
_CJK: Final = _IDEOGRAPH + "\u3000-\u303f\uff00-\uffef"
_BETWEEN: Final = re.compile(rf"(?<=[{_CJK}]) (?=[{_CJK}])")
_MOST_STARTS: Final = 500
_WORD: Final = re.compile(rf"[{_IDEOGRAPH}]|[^\s{_IDEOGRAPH}]+")


@dataclass(frozen=True)
class PageScore:
    """What one answer is worth. Rates are shares of the truth's characters or words, at most 1.

    `fields` says of each field of a form whether it is exact; `exact` is the whole form, None for a page of text.
    """

    cer: float
    wer: float
    empty: bool
    loop: bool
    exact: bool | None = None
    fields: Mapping[str, bool] | None = None

    @property
    def wrong(self) -> bool:
        """Whether anything on the page was misread."""
        return self.exact is False if self.exact is not None else self.cer > 0


def score(page: Page, answer: Answer, *, strict: bool = False) -> PageScore:
    """Score an answer. A form is scored by its fields, as text in their order; what is missing is empty."""
    empty, loop = not said(answer.text).strip(), looped(page.truth, answer)
    if page.fields is None:
        cer, wer = rates(page.truth, answer.text, strict=strict)
        return PageScore(cer, wer, empty, loop)
    got = fields_of(answer.text)
    right = {name: same_field(value, got.get(name), strict=strict) for name, value in page.fields.items()}
    edits = characters = wrong = words = 0
    for name, value in page.fields.items():
        wanted = even(value, strict=strict)
        found = wanted if right[name] else even(plain(got.get(name)), strict=strict)
        edits += min(_distance(wanted, found), max(len(wanted), 1))
        characters += len(wanted)
        wrong += min(_distance(words_of(wanted), words_of(found)), max(len(words_of(wanted)), 1))
        words += len(words_of(wanted))
    return PageScore(_rate(edits, characters), _rate(wrong, words), empty, loop, all(right.values()), right)


def rates(truth: str, read: str, *, strict: bool = False) -> tuple[float, float]:
    """The character and the word error rate: edits (put in, left out, replaced) by the truth's length, at most 1.

    An answer can need more edits than the page has characters; it is no worse than one that read nothing. Chinese
    and Japanese characters are words of their own. Where the truth is empty, anything read is all wrong.
    """
    wanted, got = even(truth, strict=strict), even(read, strict=strict)
    characters = _rate(_distance(wanted, got), len(wanted))
    return characters, _rate(_distance(words_of(wanted), words_of(got)), len(words_of(wanted)))


def even(text: str, *, strict: bool = False) -> str:
    """A text as it is compared."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    if strict:
        return text.removesuffix("\n")
    text = _RULE.sub("", said(text))
    text = _BOLD.sub(r"\1", _HEADING.sub("", text)).replace("|", " ")
    return _BETWEEN.sub("", " ".join(text.split()))


def said(text: str) -> str:
    """An answer without its thoughts, and without a code fence around all of it."""
    text = _THOUGHTS.sub("", text, count=1)
    if text.lstrip().startswith("<think>"):
        return ""
    fenced = _FENCED.match(text)
    return fenced[1] if fenced else text


def words_of(text: str) -> list[str]:
    """Words as they are counted."""
    return _WORD.findall(text)


def looped(truth: str, answer: Answer) -> bool:
    """Whether the answer did not end by itself and its end is one piece again and again that the page has not."""
    if answer.ended == "loop":
        return True
    piece = repeated_end(answer.text) if answer.ended == "length" else None
    return piece is not None and repeated_end(truth) is None


def fields_of(text: str) -> Mapping[str, Any]:
    """The first JSON object in an answer, be there words or a fence around it; nothing where there is none."""
    return next((found for found in json_in(said(text)) if isinstance(found, dict)), {})


def json_in(text: str) -> Iterator[Any]:
    """JSON objects and lists in a text, outermost first, whatever stands around them.

    An answer may be nothing but brackets: what nests deeper than can be read ends the search.
    """
    decoder = json.JSONDecoder()
    for at in (m.start() for m in islice(re.finditer(r"[\[{]", text), _MOST_STARTS)):
        try:
            found, _ = decoder.raw_decode(text, at)
        except RecursionError:
            return
        except ValueError:
            continue
        yield found


def same_field(wanted: str, got: object, *, strict: bool = False) -> bool:
    """Whether a field was read exactly; a number that was given as a number is compared as one, unless `strict`."""
    if strict:
        return got == wanted
    if isinstance(got, (int, float)) and not isinstance(got, bool):
        try:
            return Decimal(str(got)) == Decimal(wanted)
        except InvalidOperation:
            return False
    return isinstance(got, str) and even(got) == even(wanted)


def plain(value: object) -> str:
    """A field's value as text; what is no single value is as good as missing."""
    if isinstance(value, bool) or value is None or isinstance(value, (dict, list)):
        return ""
    return str(value)


def _distance(wanted: Any, got: Any) -> int:
    from rapidfuzz.distance import Levenshtein

    return int(Levenshtein.distance(wanted, got))


def _rate(edits: int, length: int) -> float:
    return min(1.0, edits / length) if length else float(edits > 0)
