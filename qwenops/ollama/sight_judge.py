"""Judge what a model said about the made-up picture: pure, from the scene and the answer to a finding a part.

A model may put the answer into a sentence, into another language's sentence, or into fullwidth digits; it may turn
the question about the shapes around. All of that is right as long as it is true. What is hedged is not an answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from qwenops.ollama.repetition import repeated_end
from qwenops.ollama.scene import OPPOSITE, Scene

Part = Literal["projector", "picture", "answer", "word", "number", "relation", "device"]
Cause = Literal[
    "",
    "missing",
    "mismatch",
    "refused",
    "context",
    "memory",
    "ignored",
    "empty",
    "thoughts",
    "looping",
    "garbled",
    "unseen",
    "wrong",
    "undecided",
    "cpu",
]
_SHOWN: Final = 80


@dataclass(frozen=True)
class Said:
    """One answer. `done_reason` is "length" at the token limit and "" where Ollama broke off a row of equal tokens.

    `garbled` says that the server could not make sense of what was written, and gave an error in place of the answer.
    """

    text: str
    thinking: str = ""
    done_reason: str = "stop"
    garbled: bool = False


@dataclass(frozen=True)
class Finding:
    """One part of seeing: right where `cause` is empty. Only what is `required` makes the whole fail."""

    part: Part
    expected: str
    observed: str
    cause: Cause = ""
    required: bool = True

    @property
    def ok(self) -> bool:
        """Whether this part is as it should be."""
        return not self.cause


def judge_reading(scene: Scene, said: Said) -> tuple[Finding, ...]:
    """The answer as such, the word, the number."""
    text = without_thoughts(said.text)
    word, number = _says_word(text, scene.word), _says_number(text, scene.number)
    return (
        judge_answer(said, right=word and number),
        Finding("word", scene.word, shown(text), "" if word else "wrong"),
        Finding("number", scene.number, shown(text), "" if number else "wrong"),
    )


def judge_answer(said: Said, *, right: bool) -> Finding:
    """Whether there is an answer to judge: not empty, not all thoughts, no loop, not "I see no picture"."""
    text = without_thoughts(said.text)
    if said.garbled:
        return Finding("answer", "an answer", "nothing that the server could parse", "garbled")
    loop = repeated_end(said.text) or repeated_end(said.thinking)
    if said.done_reason == "" or (said.done_reason == "length" and loop):
        return Finding("answer", "an answer that ends", f"{shown(loop or said.text)} again and again", "looping")
    thoughts = said.thinking or said.text
    if not text.strip() and thoughts.strip():
        return Finding("answer", "an answer", f"{len(thoughts.strip())} characters of thought", "thoughts")
    if not text.strip():
        return Finding("answer", "an answer", "nothing", "empty")
    if not right and _SEES_NOTHING.search(text):
        return Finding("answer", "an answer", shown(text), "unseen")
    return Finding("answer", "an answer", shown(text))


def judge_relation(scene: Scene, said: Said) -> Finding:
    """Whether the answer says how the shapes lie; both ways at once, or neither, is undecided."""
    text = without_thoughts(said.text).replace(scene.relation_question, " ")
    claims = set(_claims(unicodedata.normalize("NFKC", text).lower(), scene))
    observed = shown(text)
    if claims == {scene.relation}:
        return Finding("relation", scene.relation, observed)
    return Finding("relation", scene.relation, observed, "wrong" if len(claims) == 1 else "undecided")


def without_thoughts(text: str) -> str:
    """The answer without thoughts that leaked into it; what follows an opening tag that nothing closes is thought."""
    return _OPEN_THOUGHT.sub("", _THOUGHT.sub("", text)).strip()


def shown(text: str, most: int = _SHOWN) -> str:
    """The beginning of an answer on one line, with nothing in it that would command a terminal."""
    plain = " ".join("".join(c if c.isprintable() or c.isspace() else " " for c in text).split())
    return plain if len(plain) <= most else plain[: most - 1] + "…"


_THOUGHT = re.compile(r"(?:<think>)?(?:(?!<think>|</think>).)*</think>", re.DOTALL)
_OPEN_THOUGHT = re.compile(r"<think>.*", re.DOTALL)
_SEES_NOTHING = re.compile(
    r"(?:can'?t|cannot|can not|unable to|don'?t|do not|not able to) (?:\w+ )?(?:see|view|access|process|read|open)"
    r"|(?:no|without an?|didn'?t (?:provide|attach)|not (?:provided|attached)) (?:image|picture|photo)"
    r"|(?:provide|upload|attach|share) (?:the|an?|your) (?:image|picture|photo)"
    r"|(?:无法|不能|看不到|没有)(?:查看|看到|识别|读取|提供)?(?:任何|这张|该|您的)?(?:图片|图像|照片)",
    re.IGNORECASE,
)


def _says_word(text: str, word: str) -> bool:
    """The word alone, whatever stands around it; letters may be spaced out."""
    letters = r"[\s\-_.*]{0,2}".join(map(re.escape, word))
    return bool(re.search(rf"(?<![a-z]){letters}(?![a-z])", unicodedata.normalize("NFKC", text), re.IGNORECASE))


def _says_number(text: str, number: str) -> bool:
    """The digits alone; a separator of thousands or a blank between them does no harm."""
    digits = r"[ ,.'\-]?".join(number)
    return bool(re.search(rf"(?<!\d){digits}(?!\d)", unicodedata.normalize("NFKC", text)))


_PLACES: Final = {
    **dict.fromkeys(("left", "左"), "left"),
    **dict.fromkeys(("right", "右"), "right"),
    **dict.fromkeys(("above", "over", "top", "upper", "higher", "上方", "上面", "上边"), "above"),
    **dict.fromkeys(("below", "under", "underneath", "beneath", "bottom", "lower", "下方", "下面", "下边"), "below"),
}
_SHAPES: Final = {
    **dict.fromkeys(("circle", "disc", "disk", "dot", "圆形", "圆"), "circle"),
    **dict.fromkeys(("square", "正方形", "方块", "方形"), "square"),
    **dict.fromkeys(("triangle", "三角形", "三角"), "triangle"),
}
# "right above" is above; 上 alone is an answer, and within a sentence as often "in (the picture)"
_STEADY: Final = re.compile(r"\b(?:right|directly|just) (?=above|below|over|under|beneath|on top)")
_ONE_CHARACTER: Final = re.compile(r"^\W*([上下])\W*$")
_CLAUSES: Final = re.compile(r"[.,;:!?。，；：！？\n]|\b(?:and|while|whereas|but)\b|而")
_WORDS: Final = re.compile(
    "|".join(rf"\b{word}\b" if word.isascii() else word for word in sorted((*_PLACES, *_SHAPES), key=len, reverse=True))
)


def _claims(text: str, scene: Scene) -> Iterator[str]:
    """What each word of place says of the first shape towards the second."""
    for clause in _CLAUSES.split(_ONE_CHARACTER.sub(r"\1方", _STEADY.sub("", text))):
        words = _WORDS.findall(clause)
        for place, word in enumerate(words):
            if word in _PLACES:
                before = [_SHAPES[w] for w in words[:place] if w in _SHAPES]
                after = [_SHAPES[w] for w in words[place + 1 :] if w in _SHAPES]
                turned = _turned_chinese if not word.isascii() else _turned
                yield OPPOSITE[_PLACES[word]] if turned(before, after, scene) else _PLACES[word]


def _turned(before: list[str], after: list[str], scene: Scene) -> bool:
    """Whether a clause speaks of the second shape: "the square is right of the circle", "... of the square: right"."""
    if after:
        return after[0] == scene.first
    return bool(before) and before[-1] == scene.second


def _turned_chinese(before: list[str], after: list[str], scene: Scene) -> bool:
    """The same where the place follows what it refers to: A在B的左边, B的左边是A, A在左边, 左边是A."""
    if len(before) == 1 and after:
        return before[0] == scene.first
    subject = (before or after or [scene.first])[0]
    return subject == scene.second
