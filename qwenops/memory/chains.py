"""Replays of models whose blocks are alike, put together from the parts of a few blocks.

Where a model is cut between host and devices, how many blocks are on either side and which types their weights have
changes nothing of what is taken and given back for a block, only how often and how much. So a graph of few blocks is
recorded for every kind of ends and borders, cut into parts, and the parts are played in the order of the whole model.
Where parts turn out not to come again as they are, more blocks are recorded, and in the end all of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from qwenops.memory.backends import Backend
from qwenops.memory.cells import Sizes
from qwenops.memory.parts import Parts, cut_by_block, may_come_again
from qwenops.memory.periods import Repeat, Shortened, shortened, whole
from qwenops.memory.playing import Player, Step
from qwenops.memory.replays import KEPT, Record, Recorded, Structure
from qwenops.units import pad

# how many blocks are kept behind a period, tried in this order; Metal looks far ahead for work to do beside other work
_BEHIND: Final = (1, 8)
_BEHIND_METAL: Final = (3, 8)
_KEPT_PLANS: Final = 16 * KEPT
_KEPT_SIZES: Final = 32


class _NotAlikeError(Exception):
    """The blocks of a structure do not come again as they are."""


@dataclass(frozen=True)
class _Plan:
    """A chain, the blocks whose graph is recorded for it, and which of those every block of the model is like."""

    chain: _Chain
    kept: tuple[int, ...]
    sources: tuple[int, ...]


class Chains:
    """Buffer peaks by kinds of blocks, ends and borders."""

    def __init__(self) -> None:
        self._plans: OrderedDict[Hashable, _Plan | None] = OrderedDict()
        self._chains: OrderedDict[Hashable, _Chain | None] = OrderedDict()
        self._players: dict[tuple[Backend, ...], Player] = {}

    def peaks(self, structure: Structure, steps: int, record: Record) -> list[int] | None:
        """Bytes of each backend's buffer, as Replays.peaks gives them; None where blocks hang together."""
        placed = structure.placed
        try:
            plan = self._plans[placed]
        except KeyError:
            plan = self._plans[placed] = self._plan(structure, record)
            if len(self._plans) > _KEPT_PLANS:
                self._plans.popitem(last=False)
        if plan is None:
            return None
        player = self._players.get(structure.backends)
        if player is None:
            player = self._players[structure.backends] = Player(structure.backends)
        try:
            sized = plan.chain.sized(steps, record, plan.kept)
        except _NotAlikeError:
            self._plans[placed] = None
            return None
        return player.peaks(sized.steps(structure, plan.sources, player))

    def _plan(self, structure: Structure, record: Record) -> _Plan | None:
        word = structure.word
        metal = any(b.kind == "metal" for b in structure.backends)
        tries = [shortened(word, behind) for behind in (_BEHIND_METAL if metal else _BEHIND)]
        for short in dict.fromkeys((*tries, whole(word))):
            places = tuple((r.at, r.period) for r in short.repeats)
            key = structure.skeleton(tuple(word[i] for i in short.kept), places)
            if key not in self._chains:
                self._chains[key] = _Chain.begun(short, structure.backends, record)
                if len(self._chains) > KEPT:
                    self._chains.popitem(last=False)
            found = self._chains[key]
            if found is not None:
                return _Plan(found, short.kept, short.sources)
        return None


class _Chain:
    """The parts of one skeleton. `repeats` are those that were left out of it."""

    def __init__(self, repeats: Sequence[Repeat], backends: Sequence[Backend]) -> None:
        self._repeats = repeats
        self._backends = backends
        self._recordings: list[_Recording] = []
        self._sized: OrderedDict[int, _Sized] = OrderedDict()

    @classmethod
    def begun(cls, short: Shortened, backends: Sequence[Backend], record: Record) -> _Chain | None:
        """A chain with a first recording; None where its blocks are not alike."""
        chain = cls(short.repeats, backends)
        try:
            chain.learn(record, short.kept)
        except _NotAlikeError:
            return None
        return chain

    def learn(self, record: Record, blocks: Sequence[int]) -> _Recording:
        """Replay the graph of the blocks that are kept."""
        recorded = record(blocks)
        if len(recorded.tapes) > 1:
            raise _NotAlikeError  # splits were short of room: what is done depends on their number
        (tape,) = recorded.tapes
        if len(tape.ends) != len(blocks):
            raise _NotAlikeError
        parts = cut_by_block(tape, blocks)
        if not all(may_come_again(parts, tape, repeat) for repeat in self._repeats):
            raise _NotAlikeError
        self._recordings.append(_Recording(recorded, parts, self._backends))
        return self._recordings[-1]

    def sized(self, steps: int, record: Record, blocks: Sequence[int]) -> _Sized:
        """The parts with the sizes that belong to so many steps of cells."""
        found = self._sized.get(steps)
        if found is None:
            of_these = (each for each in self._recordings if each.holds_at(steps))
            found = self._sized[steps] = _Sized(next(of_these, None) or self.learn(record, blocks), steps)
            if len(self._sized) > _KEPT_SIZES:
                self._sized.popitem(last=False)
        return found


class _Recording:
    """A recorded graph, cut into parts, with the aligned sizes of what each of them takes."""

    def __init__(self, recorded: Recorded, parts: Parts, backends: Sequence[Backend]) -> None:
        self.parts = parts
        self.holds_at = recorded.holds_at
        (tape,) = recorded.tapes
        self._backends = backends
        alignments = [backends[b].alignment for b in tape.backends]
        self._sizes = [Sizes(tape.sizes[first:end], alignments[first:end]) for first, end in pairwise(parts.own)]
        self._copies: dict[Hashable, list[tuple[int, int]]] = {}

    def sizes(self, part: int, steps: int, key: Hashable, structure: Structure, block: int) -> list[int]:
        """Sizes of what a part takes; a copy of a weight has that of the block's own. `key` tells such blocks apart."""
        sizes = self._sizes[part].at(steps)
        if self.parts.copies[part]:
            copies = self._copies.get(key)
            if copies is None:
                copies = self._copies[key] = [*self._copy_sizes(structure, part, block)]
            for place, size in copies:
                sizes[place] = size
        return sizes

    def _copy_sizes(self, structure: Structure, part: int, block: int) -> Iterator[tuple[int, int]]:
        for place, ahead, name in self.parts.copies[part]:
            full = name if ahead is None else f"blk.{block + ahead}.{name}"
            backend = self.parts.parts[part].backends[place]
            yield place, pad(structure.copy_bytes(full, backend), self._backends[backend].alignment)


class _Sized:
    """The steps of a chain for one number of cells, made as they are asked for."""

    def __init__(self, recording: _Recording, steps_of_cells: int) -> None:
        self._recording = recording
        self._cells = steps_of_cells
        self._steps: dict[Hashable, Step] = {}

    def steps(self, structure: Structure, sources: Sequence[int], player: Player) -> list[Step]:
        """What is played for the whole model."""
        parts, kinds, found = self._recording.parts, structure.weights.kinds, self._steps
        copied_from = parts.copied_from
        steps = []
        for block, part in enumerate((*sources, len(parts.parts) - 1)):
            key: Hashable = part
            if copied_from[part]:
                key = (part, *[kinds[0 if ahead is None else block + 1 + ahead] for ahead in copied_from[part]])
            step = found.get(key)
            if step is None:
                sizes = self._recording.sizes(part, self._cells, key, structure, block)
                step = found[key] = player.step(parts.parts[part], tuple(sizes))
            steps.append(step)
        return steps
