"""Every variant in every test, in fair order: what fails is marked and the others go on, what is finished is handed on.

Side by side, all variants are loaded and every test goes through all of them before the next. In turn, a variant is
loaded, runs its tests as many times as make up for the load, and leaves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from qwenops.bench.engines import Engine, Session
from qwenops.bench.order import Clock, Effort, Mode, in_a_turn, is_due, is_precise, turns
from qwenops.bench.statistics import Comparison, compare_ratios, half_width
from qwenops.bench.types import SECONDS, Cell, SpeedTest, Timing, Variant
from qwenops.bench.watch import Held, Look, Seen, Watch
from qwenops.errors import ChildDied, QwenopsError, ServerDown

OnTurn = Callable[["Turn"], None]
OnCell = Callable[[Cell], None]


@dataclass(frozen=True)
class Turn:
    """One step of a run, for those who follow it: what was measured, how far it is, and the seconds that are left.

    `timings` are empty where it failed. `left_s` is None before anything is known.
    """

    variant: Variant
    test: SpeedTest
    round_: int
    rounds: int
    timings: tuple[Timing, ...]
    left_s: float | None


@dataclass
class Matrix:
    """A run. `cells` and what was seen and held are there at any time, whatever ends it."""

    variants: Sequence[Variant]
    tests: Sequence[SpeedTest]
    engine: Engine
    effort: Effort
    mode: Mode
    seed: int
    watch: Watch
    on_turn: OnTurn | None = None
    on_cell: OnCell | None = None
    first_round: int = 0
    cells: dict[tuple[int, int], Cell] = field(default_factory=dict)
    seen: dict[tuple[int, int], Seen] = field(default_factory=dict)
    held: dict[int, Held] = field(default_factory=dict)
    info: dict[int, dict[str, Any]] = field(default_factory=dict)
    load_seconds: dict[int, list[float]] = field(default_factory=dict)
    in_a_turn: int = 1
    late: bool = False
    _sessions: dict[int, Session] = field(default_factory=dict)
    _kept: dict[int, dict[str, int]] = field(default_factory=dict)
    _took: dict[tuple[int, int], float] = field(default_factory=dict)
    _told: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        for v, variant in enumerate(self.variants):
            self.held.setdefault(v, Held())
            for t, test in enumerate(self.tests):
                cell = self.cells.setdefault((v, t), Cell(v, test))
                self.seen.setdefault((v, t), Seen())
                reason = self.engine.cannot(variant, test)
                if reason:
                    cell.status, cell.reason = "cannot", reason

    def run(self) -> None:
        """Measure until there are enough rounds, the figures are precise, or the time is over."""
        clock = Clock(self.effort.time_limit_s)
        try:
            self._loads()
            self._rounds(clock)
        finally:
            self._close_all()
        for cell in self.cells.values():
            self._finish(cell)

    def _loads(self) -> None:
        """Cold and warm loads, before anything is loaded that would hold the files in the page cache."""
        chosen = [t for t, test in enumerate(self.tests) if test.load]
        for round_ in range(self.effort.loads if chosen else 0):
            alive = [v for v in range(len(self.variants)) if any(self.cells[v, t].status == "ok" for t in chosen)]
            for v, i in turns("side by side", alive, len(chosen), self.seed, round_):
                cell = self.cells[v, chosen[i]]
                if cell.status == "ok" and round_ not in cell.rounds:
                    self._take(v, chosen[i], round_, self.effort.loads, 1)
        for (_, t), cell in self.cells.items():
            if t in chosen:
                self._finish(cell)

    def _rounds(self, clock: Clock) -> None:
        rounds = self.effort.rounds(len(self.variants))
        round_, longest = self.first_round, 0.0
        while round_ < rounds and any(self._alive()):
            before = clock.spent_s
            if round_ > self.first_round and clock.is_over(longest):
                self.late = True
                break
            last = round_ + self.in_a_turn >= rounds and self.effort.precision is None
            self._round(round_, rounds, min(self.in_a_turn, rounds - round_), last)
            longest = clock.spent_s - before
            first, round_ = round_ == self.first_round, round_ + self.in_a_turn
            if self.mode == "in turn" and first:
                self.in_a_turn = self._fitting_turn(rounds)
            if self.effort.precision is not None and self._is_precise(self.effort.precision):
                break

    def _round(self, round_: int, rounds: int, times: int, last: bool) -> None:
        """One repetition of all that lives, or `times` of each where variants are loaded in turn."""
        alive = sorted({v for v, _ in self._alive()})
        for v, t in turns(self.mode, alive, len(self.tests), self.seed, round_):
            cell = self.cells[v, t]
            if cell.status != "ok" or cell.test.load or round_ in cell.rounds:
                continue
            if self.mode == "in turn":
                self._close_all(but=v)
            self._take(v, t, round_, rounds, times)
            if last:
                self._finish(cell)

    def _take(self, v: int, t: int, round_: int, rounds: int, times: int) -> None:
        timings = self._repeat(v, t, times)
        if timings:
            self.cells[v, t].add(round_, timings)
        if self.on_turn:
            self.on_turn(self._turn(v, t, round_, rounds, timings))

    def _repeat(self, v: int, t: int, times: int) -> list[Timing]:
        """The repetitions of one cell in this turn; a cell that fails keeps what it has."""
        cell, variant = self.cells[v, t], self.variants[v]
        try:
            if cell.test.load:
                return [self.engine.time_load(variant, cell.test)]
            session = self._session(v)
            before = self.watch.look(session.processes())
            timings = [session.time(cell.test) for _ in range(times)]
            after = self.watch.look(session.processes())
            self._took[v, t] = (after.at - before.at) / times
            self.watch.turn(self.seen[v, t], before, after, timings, self._devices(v))
            self.watch.hold(self.held[v], before, after, self._kept.get(v, {}))
            return timings
        except QwenopsError as error:
            cell.status, cell.reason, cell.do = "failed", error.message, error.do
            if isinstance(error, (ChildDied, ServerDown)):
                self._close(v)
            return []

    def _session(self, v: int) -> Session:
        """The variant, loaded. Where it cannot be, all its cells fail for that reason."""
        if v in self._sessions:
            return self._sessions[v]
        tests = [cell.test for cell in self._cells_of(v) if cell.status == "ok" and not cell.test.load]
        before = self.watch.look()
        try:
            session = self.engine.open(self.variants[v], tests)
        except QwenopsError as error:
            for cell in self._cells_of(v):
                if cell.status == "ok" and not cell.test.load:
                    cell.status, cell.reason, cell.do = "failed", error.message, error.do
            raise
        self._sessions[v] = session
        self.info[v] = dict(session.info)
        self.held[v].idle_bytes = session.idle_host_bytes
        self.load_seconds.setdefault(v, []).append(session.load_seconds)
        after = self.watch.look(session.processes())
        self.watch.hold(self.held[v], before, after, {})
        self._kept[v] = _rise(before, after)
        return session

    def _alive(self) -> Iterator[tuple[int, int]]:
        return (key for key, cell in self.cells.items() if cell.status == "ok" and not cell.test.load)

    def _cells_of(self, v: int) -> list[Cell]:
        return [cell for (w, _), cell in self.cells.items() if w == v]

    def _devices(self, v: int) -> list[str]:
        return list(self.info.get(v, {}).get("devices", ()))

    def _fitting_turn(self, rounds: int) -> int:
        loads = [s[-1] for s in self.load_seconds.values()]
        spent = [sum(took for (v, _), took in self._took.items() if v == one) for one in self.load_seconds]
        return in_a_turn(max(loads, default=0.0), max(spent, default=0.0), rounds)

    def _is_precise(self, precision: float) -> bool:
        living = [cell.samples for cell in self.cells.values() if cell.status == "ok" and not cell.test.load]
        due = is_due(min((len(samples) for samples in living), default=0)) or self.in_a_turn > 1
        return due and is_precise(living, precision) and self._ratios_precise(precision)

    def _ratios_precise(self, precision: float) -> bool:
        return all(half_width(ratios) <= precision for _, _, _, ratios in self.ratios())

    def ratios(self) -> list[tuple[int, int, SpeedTest, list[float]]]:
        """(variant, base, test, ratios of their speeds by round): every variant beside the first that was measured."""
        found = []
        for t, test in enumerate(self.tests):
            have = [v for v in range(len(self.variants)) if self.cells[v, t].rounds]
            for v in have[1:]:
                ours, base = self.cells[v, t].rounds, self.cells[have[0], t].rounds
                shared = sorted(ours.keys() & base.keys())
                pairs = [(base[r], ours[r]) if test.unit == SECONDS else (ours[r], base[r]) for r in shared]
                if pairs:
                    found.append((v, have[0], test, [a / b for a, b in pairs]))
        return found

    def _turn(self, v: int, t: int, round_: int, rounds: int, timings: list[Timing]) -> Turn:
        known = len(self._took) >= sum(not cell.test.load for cell in self.cells.values() if cell.status == "ok")
        left = None
        if known:
            wanted = sum(
                took * max(0, rounds - len(self.cells[key].samples))
                for key, took in self._took.items()
                if self.cells[key].status == "ok"
            )
            left = wanted
        return Turn(self.variants[v], self.tests[t], round_, rounds, tuple(timings), left)

    def _finish(self, cell: Cell) -> None:
        if cell.samples and self.on_cell and id(cell) not in self._told:
            self._told.add(id(cell))
            self.on_cell(cell)

    def _close(self, v: int) -> None:
        session = self._sessions.pop(v, None)
        self._kept.pop(v, None)
        if session:
            with contextlib.suppress(QwenopsError):
                session.close()

    def _close_all(self, but: int | None = None) -> None:
        for v in list(self._sessions):
            if v != but:
                self._close(v)


@dataclass(frozen=True)
class Pair:
    """One variant beside the first that was measured, in one test."""

    variant: int
    base: int
    test: SpeedTest
    comparison: Comparison


def paired(matrix: Matrix) -> list[Pair]:
    """Every variant beside the first one, test by test, over the rounds that both finished."""
    found = matrix.ratios()
    return [Pair(v, base, test, compare_ratios(ratios, comparisons=len(found))) for v, base, test, ratios in found]


def _rise(before: Look, after: Look) -> dict[str, int]:
    """By how much each device's use rose between two looks."""
    rises = {}
    for name, reading in after.devices.items():
        start = before.devices.get(name)
        if reading.used_bytes is not None and start and start.used_bytes is not None:
            rises[name] = reading.used_bytes - start.used_bytes
    return rises
