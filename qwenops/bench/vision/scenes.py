"""Questions about pictures whose answers are known, because the pictures were made: a function a kind."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from qwenops.bench.reading.paper import chance_of
from qwenops.bench.vision.shapes import COLOURS, SHAPES, Thing, picture, places
from qwenops.errors import BadInput

Kind = Literal["count", "relation", "difference", "ground"]
Box = tuple[int, int, int, int]
RELATIONS: Final = ("left", "right", "above", "below")


@dataclass(frozen=True)
class Scene:
    """One question: its words, its pictures, and the answer that is right.

    `expected` is a number, one of RELATIONS, or the name of a thing; `box` is where the thing of a grounding question
    lies, in pixels of the picture. `shapes` are the two that a relation is asked of, the first one first.
    """

    id: str
    kind: Kind
    asked: str
    expected: str
    pictures: tuple[bytes, ...]
    box: Box | None = None
    shapes: tuple[str, str] | None = None


def made_scenes(count: int, seed: int, kinds: Sequence[str] = ()) -> list[Scene]:
    """`count` questions, the kinds in turn; question n of a kind depends on the seed and n alone.

    Raises BadInput for an unknown kind.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise BadInput(f"there are no questions of kind {unknown[0]!r}", do=f"--kind: {', '.join(KINDS)}")
    wanted = list(dict.fromkeys(kinds)) or list(KINDS)
    return [made_scene(wanted[n % len(wanted)], n // len(wanted) + 1, seed) for n in range(count)]


def made_scene(kind: str, nth: int, seed: int) -> Scene:
    """One question of a kind."""
    return KINDS[kind](f"{kind}-{nth:03}", chance_of("qwenops scene", kind, nth, seed))


def count(name: str, chance: random.Random) -> Scene:
    """How many of one thing there are, among others."""
    number, others = chance.randint(2, 9), chance.randint(2, 6)
    wanted, *rest = _names(chance, 6)
    spots = places(chance, number + others, (40, 90))
    things = [_thing(wanted, spot) for spot in spots[:number]]
    things += [_thing(chance.choice(rest), spot) for spot in spots[number:]]
    asked = f"How many {wanted[0]} {wanted[1]}s are in the picture? Answer with a number."
    return Scene(name, "count", asked, str(number), (picture(things),))


def relation(name: str, chance: random.Random) -> Scene:
    """How one thing lies to another: mostly along one axis, hardly along the other."""
    first, second = chance.sample(SHAPES, 2)
    colours = chance.sample(tuple(COLOURS), 2)
    way = chance.choice(RELATIONS)
    apart, aside = chance.randint(150, 260), chance.randint(-40, 40)
    along = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}[way]
    middle = 320 + chance.randint(-60, 60), 240 + chance.randint(-30, 30)
    halves = [chance.randint(28, 45) for _ in range(2)]
    things = []
    for n, (shape, half) in enumerate(zip((first, second), halves, strict=True)):
        sign = 1 if n == 0 else -1
        x = middle[0] + sign * (along[0] * apart // 2 + (aside // 2 if along[1] else 0))
        y = middle[1] + sign * (along[1] * min(apart, 220) // 2 + (aside // 2 if along[0] else 0))
        things.append(Thing(shape, colours[n], x - half, y - half, 2 * half))
    asked = (
        f"Is the {things[0].name} left of, right of, above or below the {things[1].name}? "
        "Answer with one word: left, right, above or below."
    )
    return Scene(name, "relation", asked, way, (picture(things),), shapes=(first, second))


def difference(name: str, chance: random.Random) -> Scene:
    """Which thing the second picture has not any more, or has besides."""
    names = _names(chance, chance.randint(4, 7))
    things = [_thing(one, spot) for one, spot in zip(names, places(chance, len(names), (60, 100)), strict=True)]
    gone = chance.randrange(len(things))
    fewer, more = picture(things[:gone] + things[gone + 1 :]), picture(things)
    missing = chance.random() < 0.5
    what = "is missing in the second" if missing else "is new in the second"
    asked = (
        f"These two pictures are the same but for one shape that {what}. Which one? Answer with its colour and shape."
    )
    return Scene(name, "difference", asked, things[gone].name, (more, fewer) if missing else (fewer, more))


def ground(name: str, chance: random.Random) -> Scene:
    """Where one thing lies, as a box. The words are the family's own; `asked` is what is to be found."""
    names = _names(chance, chance.randint(3, 6))
    things = [_thing(one, spot) for one, spot in zip(names, places(chance, len(names), (50, 130)), strict=True)]
    return Scene(name, "ground", things[0].name, things[0].name, (picture(things),), box=things[0].box)


KINDS: Final[Mapping[str, Callable[[str, random.Random], Scene]]] = {
    made.__name__: made for made in (count, relation, difference, ground)
}
"""Every kind by its name, in the order in which a set takes them in turn."""


def _names(chance: random.Random, count: int) -> list[tuple[str, str]]:
    """So many different things, as colour and shape."""
    return chance.sample([(colour, shape) for colour in COLOURS for shape in SHAPES], count)


def _thing(name: tuple[str, str], spot: tuple[int, int, int]) -> Thing:
    return Thing(name[1], name[0], *spot)
