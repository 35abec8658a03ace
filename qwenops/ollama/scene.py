"""What the picture of the proof of sight shows: a made-up word, digits, and how two shapes lie to each other.

Made anew for every run, so that nobody can know the answers who does not see.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import Final

from qwenops.ollama.drawing import CONSONANTS, DIGITS, SHAPES, VOWELS, Canvas

OPPOSITE: Final = {"left": "right", "right": "left", "above": "below", "below": "above"}
READ: Final = "Write down the text in this picture, nothing else."
_WIDTH, _HEIGHT = 320, 288
_DOT = 5
_SIDE = 60
# Where the two shapes lie, the left or upper one first: the centre of each, below two lines of text.
_SIDE_BY_SIDE = ((90, 195), (230, 195))
_ONE_ABOVE_THE_OTHER = ((160, 145), (160, 245))


@dataclass(frozen=True)
class Scene:
    """A word, a number, and that the shape `first` is `relation` ("left", "above", ...) of the shape `second`."""

    word: str
    number: str
    first: str
    relation: str
    second: str

    @property
    def relation_question(self) -> str:
        """What is asked of the two shapes; every answer is one word."""
        return (
            f"Is the {self.first} left of, right of, above or below the {self.second}? "
            "Answer with one word: left, right, above or below."
        )

    def as_data(self) -> dict[str, str]:
        """Plain JSON values."""
        return asdict(self)


def made_up_scene(seed: int | None = None) -> Scene:
    """Six letters that can be spoken and mean nothing, four different digits, two different shapes and how they lie."""
    chance = random.Random(seed)
    word = "".join(chance.choice(CONSONANTS) + chance.choice(VOWELS) for _ in range(3))
    number = "".join(chance.sample(DIGITS, 4))
    first, second = chance.sample(SHAPES, 2)
    return Scene(word, number, first, chance.choice(tuple(OPPOSITE)), second)


def scene_png(scene: Scene) -> tuple[bytes, int, int]:
    """The scene as a PNG, black on white, with its width and height in pixels."""
    canvas = Canvas(_WIDTH, _HEIGHT)
    for top, text in ((16, scene.word), (64, scene.number)):
        canvas.text(text, (_WIDTH - canvas.text_width(text, _DOT)) // 2, top, _DOT)
    places = _SIDE_BY_SIDE if scene.relation in ("left", "right") else _ONE_ABOVE_THE_OTHER
    shapes = (scene.first, scene.second) if scene.relation in ("left", "above") else (scene.second, scene.first)
    for shape, (x, y) in zip(shapes, places, strict=True):
        canvas.shape(shape, x, y, _SIDE)
    return canvas.png(), _WIDTH, _HEIGHT
