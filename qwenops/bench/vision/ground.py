"""Boxes in the coordinates of each family, and how far two boxes are the same.

Qwen2.5-VL answers in pixels of the picture as it was resized for it (README and OCR cookbook); Qwen3-VL in thousandths
of its width and height (README), and so did Qwen2-VL (its README, as (x1,y1),(x2,y2)). Of Qwen3.5 and later no source
of Qwen's says; they are taken to be as Qwen3-VL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, Literal

from qwenops.bench.reading.score import json_in, said

System = Literal["pixels", "thousandths"]
Floats = tuple[float, float, float, float]
_SYSTEMS: Final[dict[str, System]] = {
    "qwen2.5-vl": "pixels",
    **dict.fromkeys(("qwen2-vl", "qwen3-vl", "qwen3.5", "qwen3.6", "qwen3.8"), "thousandths"),
}
_WORDS: Final = {
    "qwen2.5-vl": "Locate the {thing}, output its bbox coordinates using JSON format.",
    "": 'Locate every instance that belongs to the following categories: "{thing}". '
    "Report bbox coordinates in JSON format.",
}
_KEYS: Final = ("bbox_2d", "bbox", "box_2d", "box")
_NUMBER: Final = r"\s*(-?\d+(?:\.\d+)?)\s*"
_FOUR: Final = re.compile(rf"[\[(]{_NUMBER},{_NUMBER}(?:,|\)\s*,\s*\(){_NUMBER},{_NUMBER}[\])]")


def system_of(family: str) -> System | None:
    """How a family counts; None where nobody says."""
    return _SYSTEMS.get(family)


def words_for(family: str, thing: str) -> str:
    """The makers' own words for finding a thing."""
    return _WORDS.get(family, _WORDS[""]).format(thing=thing)


def box_in(answer: str) -> Floats | None:
    """The first box of an answer: a JSON value under a usual key, else the first four numbers in brackets."""
    text = said(answer)
    found = next(_json_boxes(text), None)
    if found is None:
        match = _FOUR.search(text)
        found = tuple(map(float, match.groups())) if match else None  # type: ignore[assignment]
    if found is None:
        return None
    left, top, right, bottom = found
    return min(left, right), min(top, bottom), max(left, right), max(top, bottom)


def in_picture(box: Floats, system: System, picture: tuple[int, int], resized: tuple[int, int]) -> Floats:
    """A box in pixels of the picture: `resized` is what the model saw of it."""
    wide, high = (1000, 1000) if system == "thousandths" else resized
    x, y = picture[0] / wide, picture[1] / high
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def iou(one: Floats, other: Floats) -> float:
    """Intersection over union: the area that both have by the area that either has; 0 for boxes without area."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    both = max(0.0, wide) * max(0.0, high)
    either = sum(max(0.0, b[2] - b[0]) * max(0.0, b[3] - b[1]) for b in (one, other)) - both
    return both / either if either > 0 else 0.0


def _json_boxes(text: str) -> Iterator[Floats]:
    for found in json_in(text):
        for one in found if isinstance(found, list) else [found]:
            if isinstance(one, dict):
                yield from (box for box in (_four(one.get(key)) for key in _KEYS) if box)


def _four(value: Any) -> Floats | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e9 for v in value):
        return None
    return float(value[0]), float(value[1]), float(value[2]), float(value[3])
