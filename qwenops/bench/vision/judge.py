"""Whether an answer about a made picture is right, by rules that a sentence around it does not disturb."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from qwenops.bench.reading.score import said
from qwenops.bench.vision.ground import System, box_in, in_picture, iou
from qwenops.bench.vision.scenes import Scene
from qwenops.bench.vision.shapes import COLOURS, HEIGHT, SHAPES, WIDTH
from qwenops.ollama.scene import Scene as Sight
from qwenops.ollama.sight_judge import Said, judge_relation

ENOUGH: Final = 0.5
"""The overlap from which a box counts as right, as detection benchmarks have it since PASCAL VOC."""
_NUMBERS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBER: Final = re.compile(rf"\d+|\b(?:{'|'.join(_NUMBERS)})\b")
_CHINESE: Final = {
    "红": "red",
    "蓝": "blue",
    "绿": "green",
    "黄": "yellow",
    "黑": "black",
    "圆": "circle",
    "方": "square",
    "三角": "triangle",
}
_OTHER: Final = {"dot": "circle", "disc": "circle", "disk": "circle", "rectangle": "square"}


@dataclass(frozen=True)
class Judged:
    """What became of one question. `iou` is that of a box, None for other questions; 0 where no box was given."""

    right: bool
    iou: float | None = None


def judge(scene: Scene, text: str, system: System | None = None, resized: tuple[int, int] | None = None) -> Judged:
    """Judge an answer. A grounding question needs the family's coordinates and the size of what the model saw."""
    if scene.kind == "ground":
        assert scene.box is not None
        assert system is not None
        box = box_in(text)
        found = in_picture(box, system, (WIDTH, HEIGHT), resized or (WIDTH, HEIGHT)) if box else None
        overlap = iou(found, scene.box) if found else 0.0
        return Judged(overlap >= ENOUGH, overlap)
    plain = unicodedata.normalize("NFKC", said(text)).replace(scene.asked, " ").lower()
    if scene.kind == "count":
        return Judged(counted(plain) == int(scene.expected))
    if scene.kind == "relation":
        assert scene.shapes is not None
        sight = Sight("", "", scene.shapes[0], scene.expected, scene.shapes[1])
        return Judged(judge_relation(sight, Said(plain)).ok)
    return Judged(named(plain) == set(scene.expected.split()))


def counted(text: str) -> int | None:
    """The number of an answer: its only one, or the last of several ("2 in the first row and 3 below: 5")."""
    found = _NUMBER.findall(text)
    if not found:
        return None
    return _NUMBERS.index(found[-1]) if found[-1] in _NUMBERS else int(found[-1][:9])


def named(text: str) -> set[str]:
    """The colours and shapes that an answer names; one that names several of a kind has not decided."""
    words = {_OTHER.get(w.rstrip("s"), w.rstrip("s")) for w in re.findall(r"[a-z]+", text)}
    words |= {english for chinese, english in _CHINESE.items() if chinese in text}
    return {w for w in words if w in COLOURS or w in SHAPES}
