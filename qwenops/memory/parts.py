"""A tape cut into parts, one a block, each in terms of what is alive before it: parts that are alike can come again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import zip_longest

from qwenops.memory.allocator import Tape
from qwenops.memory.periods import Repeat
from qwenops.memory.remember import hashed_once


@hashed_once
@dataclass(frozen=True)
class Part:
    """What one block takes and gives back.

    Places are numbered anew: those alive before the part come first, in the order in which they were taken, then its
    own. `moves` and `cut` are as on a tape, with these numbers; `backends` are those of its own places. `left` is what
    is alive after it.
    """

    alive: int
    moves: tuple[int, ...]
    backends: tuple[int, ...]
    cut: tuple[tuple[int, int], ...]
    left: tuple[int, ...]


@dataclass(frozen=True)
class Parts:
    """The parts of a tape, a last one for what comes behind the blocks, and how they hang together.

    `before` has the places of the tape that are alive before each part, `own` the numbers of the first place that each
    takes, and one more. `copies` are the places of each that are copies of weights: which of its own, of the file's
    block how far from its own (None for what belongs to no block), and the name there.
    """

    parts: tuple[Part, ...]
    before: tuple[tuple[int, ...], ...]
    own: tuple[int, ...]
    copies: tuple[tuple[tuple[int, int | None, str], ...], ...]

    @cached_property
    def copied_from(self) -> tuple[tuple[int | None, ...], ...]:
        """From how far each part copies weights."""
        return tuple(tuple(dict.fromkeys(ahead for _, ahead, _ in copies)) for copies in self.copies)


def cut_by_block(tape: Tape, blocks: Sequence[int]) -> Parts:
    """The parts of a tape whose graph has these blocks of a file."""
    parts, before, own = [], [], [0]
    alive: list[int] = []
    start, taken = 0, 0
    for end in (*tape.ends, len(tape.moves)):
        before.append(tuple(alive))
        part, alive, taken = _part(tape, start, end, alive, taken)
        parts.append(part)
        own.append(taken)
        start = end
    return Parts(tuple(parts), tuple(before), tuple(own), _copies(tape, own, blocks))


def _part(tape: Tape, start: int, end: int, alive: list[int], taken: int) -> tuple[Part, list[int], int]:
    number = {place: i for i, place in enumerate(alive)}
    left = dict.fromkeys(alive)
    first, moves, cut = taken, [], []
    for move in tape.moves[start:end]:
        if move < 0:
            moves.append(~number[~move])
            del left[~move]
            continue
        number[move] = len(alive) + move - first
        moves.append(number[move])
        left[move] = None
        taken = move + 1
        if move in tape.cut:
            cut.append((number[move], number[tape.cut[move]]))
            del left[tape.cut[move]]
    backends = tuple(tape.backends[first:taken])
    part = Part(len(alive), tuple(moves), backends, tuple(cut), tuple(number[place] for place in left))
    return part, list(left), taken


def _copies(
    tape: Tape, own: Sequence[int], blocks: Sequence[int]
) -> tuple[tuple[tuple[int, int | None, str], ...], ...]:
    ordinals = {block: i for i, block in enumerate(blocks)}
    found: list[list[tuple[int, int | None, str]]] = [[] for _ in own[1:]]
    part = 0
    for place, name in sorted(tape.copied.items()):
        while place >= own[part + 1]:
            part += 1
        if name.startswith("blk."):
            _, block, rest = name.split(".", 2)
            found[part].append((place - own[part], ordinals[int(block)] - part, rest))
        else:
            found[part].append((place - own[part], None, name))
    return tuple(tuple(each) for each in found)


def may_come_again(parts: Parts, tape: Tape, repeat: Repeat) -> bool:
    """Whether a period leaves things as it found them, so that another one behind it would do the same.

    What is alive before the period and behind it must be the same places. Where it is not (what one block hands to the
    next), the blocks behind must do with it what the first ones of the period do, until it has been given back. No
    block of the period may add to what is taken ahead of all blocks.
    """
    here, there = repeat.at, repeat.at + repeat.period
    if not tape.ahead.isdisjoint(range(here, there)):
        return False
    while there < len(parts.parts) - 1:
        passed_on = _passed_on(parts, tape, here, there)
        alike = None if passed_on is None else _alike(parts.parts[here], parts.parts[there], passed_on)
        if alike is not _Alike.SO_FAR:
            return alike is _Alike.UNTIL_GIVEN_BACK
        here, there = here + 1, there + 1
    return False


class _Alike(Enum):
    """How far two parts do the same: until what was passed on is given back, or all of it with something left."""

    UNTIL_GIVEN_BACK = 1
    SO_FAR = 2


def _passed_on(parts: Parts, tape: Tape, here: int, there: int) -> set[int] | None:
    """What is alive before two parts and is not the same place, by its number; None where it cannot be the like."""
    one, other = parts.before[here], parts.before[there]
    if len(one) != len(other):
        return None
    differing = {i: places for i, places in enumerate(zip(one, other, strict=True)) if places[0] != places[1]}
    for a, b in differing.values():
        if tape.backends[a] != tape.backends[b] or (tape.sizes[a] != tape.sizes[b] and a not in tape.copied):
            return None
    return set(differing)


def _alike(one: Part, other: Part, passed_on: set[int]) -> _Alike | None:
    """How far two parts do the same; either may be the last that needs something which both of them find."""
    left = set(passed_on)
    moves, same_moves = (_without_last_uses(part, passed_on) for part in (one, other))
    cut, same_cut = dict(one.cut), dict(other.cut)
    for move, same in zip_longest(moves, same_moves):
        if not left:
            return _Alike.UNTIL_GIVEN_BACK
        if move is None or move != same or cut.get(move) != same_cut.get(move):
            return None
        own = move - one.alive
        if own >= 0 and one.backends[own] != other.backends[own]:
            return None
        left -= {~move, cut.get(move)}
    return _Alike.SO_FAR if left else _Alike.UNTIL_GIVEN_BACK


def _without_last_uses(part: Part, passed_on: set[int]) -> list[int]:
    return [move for move in part.moves if move >= 0 or ~move >= part.alive or ~move in passed_on]
