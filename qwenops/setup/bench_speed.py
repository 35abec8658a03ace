"""Speed of variants as a result ready to print, and as rows of the history."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from qwenops.bench.baseline import Baseline, Beside, Measured, beside, check_same_machine, read_baseline
from qwenops.bench.engines import Engine
from qwenops.bench.journal import Journal, Kept, unfinished
from qwenops.bench.matrix import Matrix, Turn, paired
from qwenops.bench.order import Effort
from qwenops.bench.statistics import is_noisy, summary
from qwenops.bench.types import Cell, Variant, settings_data, unit_of
from qwenops.bench.watch import Watch
from qwenops.errors import QwenopsError
from qwenops.history import Outcome
from qwenops.machine.detect import detect
from qwenops.result import Result
from qwenops.setup.bench_models import SpeedAsked, mode, planned, planned_data, speed_tests, variants
from qwenops.setup.given import Given

STOPPED = 130
_TOLERANCE = 0.01
OnTurn = Callable[[Turn], None]
OnSay = Callable[[str], None]


def speed_result(
    given: tuple[Given, ...],
    asked: SpeedAsked,
    *,
    compare: str | None = None,
    tolerance: float = _TOLERANCE,
    on_turn: OnTurn | None = None,
    say: OnSay = lambda _: None,
) -> Result:
    """Measure every variant in every test ("qwenops.bench/1").

    Exit code 1 where a cell failed or `compare` shows a regression, 130 where it was stopped: what is finished is shown
    and kept, and `resume` goes on.
    """
    asked = replace(asked, models=tuple(str(one) for one in given))
    return _Run(asked, compare, tolerance, on_turn, say).result()


def resume_result(
    run: str,
    *,
    effort: Mapping[str, Any],
    compare: str | None = None,
    tolerance: float = _TOLERANCE,
    on_turn: OnTurn | None = None,
    say: OnSay = lambda _: None,
) -> Result:
    """Go on with a run that was stopped or killed, by its id or "last"; `effort` replaces how long it was to take."""
    journal, was, turns = Journal.resume(run)
    known: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in was.items()}
    asked = replace(SpeedAsked(**known), **{k: v for k, v in effort.items() if v is not None})
    return _Run(asked, compare, tolerance, on_turn, say, journal, turns).result()


class _Run:
    """One call of the command, from what was typed to the result."""

    def __init__(
        self,
        asked: SpeedAsked,
        compare: str | None,
        tolerance: float,
        on_turn: OnTurn | None,
        say: OnSay,
        journal: Journal | None = None,
        kept: Sequence[Kept] = (),
    ) -> None:
        from qwenops import history

        self.asked, self.tolerance, self.on_turn, self.say = asked, tolerance, on_turn, say
        self.notes: list[str] = []
        self.tests = speed_tests(asked)
        self.machine = detect()
        self.machine_data = self.machine.as_data()
        with history.open() as known:
            self.baseline: Baseline | None = read_baseline(compare, known) if compare else None
        if self.baseline:
            check_same_machine(self.baseline, self.machine_data)
        self.engine, self.variants, failed = variants(asked)
        self.needs = [planned(one, self.tests, self.engine, self.machine) for one in self.variants]
        self.mode, why = mode(self.engine, self.variants, self.needs, self.machine)
        self.unread = failed
        if len(self.variants) > 1:
            say(why)
        old = [run for run in unfinished() if journal is None or run != journal.run]
        if old:
            self.notes.append(f"a run was stopped and can be gone on with: qwenops bench speed --resume {old[-1]}")
        self.kept = kept
        self.unwritten = ""
        self.journal = journal
        if journal is None:
            try:
                self.journal = Journal.begin(asdict(asked))
            except QwenopsError as error:
                self.unwritten = error.message

    def result(self) -> Result:
        """Measure, keep, and tell."""
        effort = Effort(self.asked.repetitions, self.asked.precision, self.asked.time_limit_s, self.asked.loads)
        stopped = False
        with Watch() as watch:
            self.matrix = matrix = Matrix(
                self.variants,
                self.tests,
                self.engine,
                effort,
                self.mode,
                self.asked.seed,
                watch,
                on_turn=self._turned,
                on_cell=self._finished,
            )
            self._take_kept(matrix)
            try:
                matrix.run()
            except KeyboardInterrupt:
                stopped = True
                for cell in matrix.cells.values():
                    if cell.status == "ok":
                        cell.status, cell.reason = "stopped", f"stopped after {len(cell.samples)} repetitions"
                    if cell.samples:
                        self._finished(cell)
        return self._told(matrix, stopped)

    # --- while it runs

    def _take_kept(self, matrix: Matrix) -> None:
        """What an earlier part of this run measured; rounds that it finished are not measured again."""
        for turn in self.kept:
            cell = matrix.cells.get((turn.variant, turn.test))
            if cell is not None and turn.timings:
                cell.add(turn.round_, list(turn.timings))
        open_cells = [c for c in matrix.cells.values() if c.status == "ok" and not c.test.load]
        matrix.first_round = min((len(c.samples) for c in open_cells), default=0) if self.kept else 0

    def _turned(self, turn: Turn) -> None:
        v, t = self.variants.index(turn.variant), self.tests.index(turn.test)
        if turn.timings and self.journal and not self.unwritten:
            try:
                self.journal.add(v, t, turn.round_, turn.timings)
            except QwenopsError as error:
                self.unwritten = error.message
        if self.on_turn:
            self.on_turn(turn)

    def _finished(self, cell: Cell) -> None:
        """Keep a cell's series in the history at once."""
        from qwenops import history

        try:
            with history.open() as kept:
                kept.record_results(self._outcomes(cell))
        except QwenopsError as error:
            self.unwritten = error.message

    def _outcomes(self, cell: Cell) -> list[Outcome]:
        variant = self.variants[cell.variant]
        info = self.matrix.info.get(cell.variant, {})
        evidence = self._evidence(cell)
        return [
            Outcome(
                kind="speed",
                model=variant.name,
                quant=variant.quant,
                model_key=_key(variant),
                test=name,
                unit=unit_of(name),
                run=self.run_id,
                engine=_engine_words(self.engine, info),
                device=_device_words(info),
                settings=self._settings(variant, info),
                machine=self.machine_data,
                evidence=evidence,
                samples=tuple(values),
            )
            for name, values in cell.series.items()
        ]

    @property
    def run_id(self) -> str:
        """What groups the rows of this command."""
        return self.journal.run if self.journal else f"{datetime.now():%Y%m%d-%H%M%S}"

    def _settings(self, variant: Variant, info: Mapping[str, Any]) -> dict[str, Any]:
        settings = settings_data(variant.settings)
        return {**settings, "threads": info.get("threads", settings["threads"]), "label": variant.label}

    def _evidence(self, cell: Cell) -> dict[str, Any]:
        seen = self.matrix.seen[cell.variant, self.tests.index(cell.test)]
        need = self.needs[cell.variant]
        held = self.matrix.held[cell.variant].as_data()
        return {
            "memory": {**held, "planned": planned_data(need)},
            "energy": seen.energy(),
            "busy": seen.busy(),
            "seen": seen.as_data(),
        }

    # --- afterwards

    def _told(self, matrix: Matrix, stopped: bool) -> Result:
        cells = list(matrix.cells.values())
        rows = [self._row(cell, name, values) for cell in cells for name, values in cell.series.items()]
        rows += [self._row(cell, cell.test.name, []) for cell in cells if not cell.samples]
        pairs = paired(matrix)
        found, notes = self._held_against(rows)
        regressions = [one for one in found if one.is_regression]
        bad = [cell for cell in cells if cell.status == "failed"]
        data = {
            "run": self.run_id,
            "created": datetime.now().astimezone().isoformat(timespec="seconds"),
            "results": sorted(rows, key=lambda r: (r["variant"], r["order"])),
            "models": [self._model(v) for v in range(len(self.variants))],
            "unread": self.unread,
            "comparisons": [
                {
                    "label": self.variants[one.variant].label,
                    "base": self.variants[one.base].label,
                    "test": one.test.name,
                    **one.comparison.as_data(),
                }
                for one in pairs
            ],
            "baseline": self._baseline(found) if self.baseline else None,
            "engine": dict(next(iter(matrix.info.values()), {"name": self.engine.name})),
            "order": {"mode": matrix.mode, "seed": matrix.seed, "in_a_turn": matrix.in_a_turn},
            "settings": {**asdict(self.asked), "models": list(self.asked.models)},
            "machine": self.machine_data,
            "stopped": stopped,
        }
        self._note(matrix, stopped, notes, bad, regressions)
        if not stopped and self.journal:
            self.journal.end()
        failed = bool(bad or regressions or self.unread or self.unwritten)
        return Result("qwenops.bench/1", data, notes=tuple(self.notes), exit_code=STOPPED if stopped else int(failed))

    def _row(self, cell: Cell, name: str, values: Sequence[float]) -> dict[str, Any]:
        variant, info = self.variants[cell.variant], self.matrix.info.get(cell.variant, {})
        unit = unit_of(name)
        told = summary(values) if values else None
        evidence = self._evidence(cell)
        return {
            "variant": cell.variant,
            "order": self.tests.index(cell.test),
            "label": variant.label,
            "model": variant.name,
            "model_key": _key(variant),
            "file": str(variant.model.path) if variant.model else variant.registered,
            "quant": variant.quant,
            "test": name,
            "prompt": cell.test.prompt,
            "generate": cell.test.generate,
            "depth": cell.test.depth,
            "unit": unit,
            "value": told,
            "tokens_per_second": told if unit == "t/s" else None,
            "status": cell.status,
            "reason": cell.reason,
            "do": list(cell.do),
            "engine": _engine_words(self.engine, info),
            "device": _device_words(info),
            "settings": self._settings(variant, info),
            "energy": evidence["energy"],
            "busy": evidence["busy"],
            "seen": evidence["seen"],
        }

    def _model(self, v: int) -> dict[str, Any]:
        variant, matrix = self.variants[v], self.matrix
        held = matrix.held[v].as_data()
        loads = matrix.load_seconds.get(v, [])
        firsts = [
            (cell, cell.series[f"first-token {cell.test.name}"])
            for (w, _), cell in matrix.cells.items()
            if w == v and f"first-token {cell.test.name}" in cell.series
        ]
        devices = held["peak_device_bytes"]
        return {
            "label": variant.label,
            "model": variant.name,
            "file": str(variant.model.path) if variant.model else variant.registered,
            "quant": variant.quant,
            "file_bytes": variant.model.file_bytes if variant.model else None,
            "load_seconds": loads[0] if loads else None,
            "first_token_seconds": summary(firsts[0][1]) if firsts else None,
            "first_token_prompt": firsts[0][0].test.prompt if firsts else None,
            "peak_host_bytes": held["peak_host_bytes"],
            "peak_device_bytes": sum(devices.values()) if devices else None,
            "memory": {**held, "planned": planned_data(self.needs[v])},
        }

    def _held_against(self, rows: Iterable[Mapping[str, Any]]) -> tuple[list[Beside], tuple[str, ...]]:
        if self.baseline is None:
            return [], ()
        measured = [
            Measured(
                label=row["label"],
                model_key=row["model_key"],
                test=row["test"],
                unit=row["unit"],
                samples=tuple(row["value"]["samples"]),
                engine=row["engine"],
                device=row["device"],
                settings=row["settings"],
                busy=bool(row["busy"]),
            )
            for row in rows
            if row["value"]
        ]
        return beside(measured, self.baseline, self.tolerance)

    def _baseline(self, found: Sequence[Beside]) -> dict[str, Any]:
        assert self.baseline is not None
        return {
            "run": self.baseline.run,
            "created": self.baseline.when,
            "tolerance": self.tolerance,
            "comparisons": [
                {
                    "label": one.label,
                    "test": one.test,
                    **one.comparison.as_data(),
                    "regression": one.is_regression,
                    "busy": one.busy,
                }
                for one in found
            ],
        }

    def _note(
        self,
        matrix: Matrix,
        stopped: bool,
        notes: tuple[str, ...],
        bad: Sequence[Cell],
        regressions: Sequence[Beside],
    ) -> None:
        for cell in matrix.cells.values():
            variant, seen = self.variants[cell.variant], matrix.seen[cell.variant, self.tests.index(cell.test)]
            why = "; ".join(flag["why"] for flag in seen.busy())
            if cell.samples and is_noisy(cell.samples):
                cause = why or "nothing was seen that explains it"
                self.notes.append(f"{variant.label} {cell.test.name}: the spread is wide ({cause})")
            elif why:
                self.notes.append(f"{variant.label} {cell.test.name}: busy machine: {why}")
        if matrix.late:
            self.notes.append("the time limit came before the figures were as precise as asked; they are as shown")
        self.notes += notes
        if any(one.busy for one in regressions):
            self.notes.append(
                "the machine was busy in one of the two runs: repeat it when it is quiet before you believe it"
            )
        if self.unwritten:
            self.notes.append(f"not all of it was kept: {self.unwritten}")
        if stopped and self.journal:
            self.notes.append(f"stopped; this goes on with it: qwenops bench speed --resume {self.journal.run}")


def _key(variant: Variant) -> str:
    from qwenops.model.read import model_key

    return model_key(variant.model) if variant.model else ""


def _engine_words(engine: Engine, info: Mapping[str, Any]) -> str:
    return f"{info.get('name', engine.name)} {info.get('version', '')}".strip()


def _device_words(info: Mapping[str, Any]) -> str:
    return "+".join(info.get("devices", ())) or "CPU"
