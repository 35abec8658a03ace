"""Go through the cases, keep every row as soon as it is there, and say on stderr how far it is."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from qwenops.errors import QwenopsError
from qwenops.runtime.types import Runtime
from scripts.verify.ask import at_the_edge, formula_again, row_of, target_for
from scripts.verify.cases import Case
from scripts.verify.lab import Ghosts, Lab, OllamaLab, ServerLab, environment_of, listed_devices
from scripts.verify.rows import Row, refused


class Kept:
    """The rows of earlier runs, a line of JSON each: a sweep that was stopped goes on where it was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        # A line that a crash cut short is asked again; of two rows of a case the later one counts.
        rows = {row.case: row for line in lines if (row := _read(line)) is not None}
        self.rows = {case: row for case, row in rows.items() if not row.stale}

    def forget_broken(self) -> None:
        """What breaks a bar is to be loaded again."""
        self.rows = {case: row for case, row in self.rows.items() if not row.faults()}

    def add(self, row: Row) -> None:
        """Keep one row, at once."""
        self.rows[row.case] = row
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row.as_data()) + "\n")


def _read(line: str) -> Row | None:
    try:
        return Row.from_data(json.loads(line))
    except (ValueError, KeyError, TypeError):
        return None


class Sweep:
    """All loads of a run below one folder: ghosts, servers, and what was kept."""

    def __init__(self, folder: Path, *, ask_formula_again: bool = False, load_broken_again: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ghosts = Ghosts(folder / "ghosts")
        self._kept = Kept(folder / "loads.jsonl")
        if load_broken_again:
            self._kept.forget_broken()
        self._again = ask_formula_again
        self._lab: Lab | None = None
        self._lab_is_for: tuple[str, ...] = ()

    def rows(self, cases: Sequence[Case]) -> Iterator[Row]:
        """Every case's row; through Ollama first, one server for cases that differ in nothing a server is told."""
        ordered = sorted(cases, key=lambda c: sorted(c.environment.items()) if c.through == "ollama" else [("~", "")])
        to_load = [case for case in ordered if case not in self._kept.rows]
        started, done = time.monotonic(), 0
        try:
            for case in ordered:
                if case in self._kept.rows:
                    yield self._as_kept(self._kept.rows[case])
                    continue
                row = self._loaded(case)
                self._kept.add(row)
                done += 1
                left = (time.monotonic() - started) / done * (len(to_load) - done)
                _report(row, f"{done}/{len(to_load)}, {left / 60:.0f} min left")
                yield row
        finally:
            self._leave_lab()

    def _as_kept(self, row: Row) -> Row:
        if not self._again or row.loaded.error:
            return row
        runtime = self._asked_only(row.case, row.target_mib)
        return formula_again(row, self._ghosts.model(row.case), runtime)

    def _loaded(self, case: Case) -> Row:
        try:
            return self._load(case)
        except QwenopsError as why:
            return refused(case, why.message)

    def _load(self, case: Case) -> Row:
        model, settings = self._ghosts.model(case), case.settings()
        target = target_for(case, model, settings, self._asked_only(case, None))
        lab = self._lab_for(case, target)
        settings = at_the_edge(case, model, settings, lab.runtime)
        return row_of(case, lab, model, settings, target)

    def _asked_only(self, case: Case, target_mib: int | None) -> Runtime:
        environment = environment_of(case, target_mib)
        return ServerLab(environment, listed_devices(case.devices)).runtime

    def _lab_for(self, case: Case, target_mib: int | None) -> Lab:
        environment = environment_of(case, target_mib)
        wanted = (case.through, str(case.devices), *(f"{k}={v}" for k, v in sorted(environment.items())))
        if self._lab is not None and self._lab_is_for == wanted:
            return self._lab
        self._leave_lab()
        if case.through == "ollama":
            self._lab = OllamaLab(self._folder / "ollama", environment)
        else:
            self._lab = ServerLab(environment, listed_devices(case.devices))
        self._lab_is_for = wanted
        return self._lab

    def _leave_lab(self) -> None:
        if self._lab is not None:
            self._lab.close()
        self._lab = None


def _report(row: Row, progress: str) -> None:
    faults = row.faults()
    print(f"{'FAIL' if faults else 'ok  '} {row.seconds:5.1f} s  {row.case}  ({progress})", file=sys.stderr)
    for fault in faults:
        print(f"       {fault}", file=sys.stderr)
