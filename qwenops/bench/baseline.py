"""A run held against an earlier one: from the history, or from the JSON that it printed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwenops.bench.statistics import Comparison, compare_apart
from qwenops.errors import BadInput
from qwenops.history import History
from qwenops.units import GIB

_SETTINGS = ("threads", "batch", "ubatch", "kv_type", "flash_attn", "gpu_layers")


@dataclass(frozen=True)
class Measured:
    """One series of a run: of which model under which settings, by which engine on which devices, and its samples."""

    label: str
    model_key: str
    test: str
    unit: str
    samples: tuple[float, ...]
    engine: str
    device: str
    settings: Mapping[str, Any]
    busy: bool = False

    @property
    def same(self) -> tuple[Any, ...]:
        """What must be equal for two series to be comparable: model, test, engine, devices, settings."""
        chosen = tuple(self.settings.get(name) for name in _SETTINGS)
        return (self.model_key, self.test, self.engine.split(" ")[0], self.device, chosen)


@dataclass(frozen=True)
class Baseline:
    """An earlier run. `machine` has devices and host as they were."""

    run: str
    when: str
    rows: tuple[Measured, ...]
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class Beside:
    """One series beside the baseline's. `busy` where the machine was not quiet in one of the two runs."""

    label: str
    test: str
    comparison: Comparison
    busy: bool

    @property
    def is_regression(self) -> bool:
        """Whether it is slower beyond the tolerance."""
        return self.comparison.verdict == "slower"


def read_baseline(wanted: str, kept: History) -> Baseline:
    """A run by its id, "last" for the newest, or a file of an earlier --json. Raises BadInput where there is none."""
    if Path(wanted).is_file():
        return _from_file(Path(wanted))
    rows = kept.results(kind="speed")
    runs = list(dict.fromkeys(row.run for row in rows if row.run))
    run = runs[-1] if wanted == "last" and runs else wanted
    chosen = [row for row in rows if row.run == run and run]
    if not chosen:
        raise BadInput(
            f"{wanted} is no run of the history and no file",
            do=(f"--compare {runs[-1]}", "--compare last") if runs else "qwenops bench speed MODEL... --json > FILE",
        )
    found = tuple(
        Measured(
            label=str(row.settings.get("label") or row.quant or row.model),
            model_key=row.model_key,
            test=row.test,
            unit=row.unit or "t/s",
            samples=tuple(float(value) for value in row.samples),
            engine=row.engine,
            device=row.device,
            settings=row.settings,
            busy=bool(row.evidence.get("busy")),
        )
        for row in chosen
    )
    return Baseline(run, chosen[0].created.isoformat(timespec="seconds"), found, chosen[0].machine)


def _from_file(path: Path) -> Baseline:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != "qwenops.bench/1":
            raise ValueError
        rows = tuple(
            Measured(
                label=one["label"],
                model_key=one["model_key"],
                test=one["test"],
                unit=one["unit"],
                samples=tuple(float(value) for value in one["value"]["samples"]),
                engine=one["engine"],
                device=one["device"],
                settings=one["settings"],
                busy=bool(one["busy"]),
            )
            for one in data["results"]
            if one["value"]
        )
        return Baseline(data["run"], data["created"], rows, data["machine"])
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(
            f"{path} is no result of `bench speed --json`", do="qwenops bench speed MODEL... --json > FILE"
        ) from None


def check_same_machine(baseline: Baseline, machine: Mapping[str, Any]) -> None:
    """Raise BadInput, naming what differs, where the baseline was made on another machine."""
    then, now = _identity(baseline.machine), _identity(machine)
    differs = [f"{word} {then[word]}, here {now[word]}" for word in then if then[word] != now[word]]
    if differs:
        raise BadInput(
            f"the baseline {baseline.run} is of another machine: {'; '.join(differs)}",
            do="make a baseline here: qwenops bench speed MODEL...",
        )


def beside(rows: Sequence[Measured], baseline: Baseline, tolerance: float) -> tuple[list[Beside], tuple[str, ...]]:
    """Every series that the baseline has too, and notes on what could not be compared or differs.

    Raises BadInput where nothing is comparable.
    """
    known = {row.same: row for row in baseline.rows}
    pairs = [(row, known[row.same]) for row in rows if row.same in known]
    if rows and not pairs:
        raise BadInput(
            f"nothing here can be held against {baseline.run}: {_why_not(rows[0], baseline)}",
            do="--compare needs the same models, tests, settings, engine and devices",
        )
    found = [
        Beside(
            now.label,
            now.test,
            compare_apart(*_speeds(now, then), tolerance=tolerance, comparisons=len(pairs)),
            now.busy or then.busy,
        )
        for now, then in pairs
    ]
    notes = [
        f"{row.label} {row.test} is not in {baseline.run} under these settings" for row in rows if row.same not in known
    ]
    versions = {(then.engine, now.engine) for now, then in pairs if then.engine != now.engine}
    notes += [f"the baseline was made with {then}, this run with {now}" for then, now in sorted(versions)]
    return found, tuple(notes)


def _speeds(now: Measured, then: Measured) -> tuple[list[float], list[float]]:
    """Both as speeds, of which more is better."""
    if now.unit == "s":
        return [1 / value for value in now.samples], [1 / value for value in then.samples]
    return list(now.samples), list(then.samples)


def _why_not(row: Measured, baseline: Baseline) -> str:
    """The first thing in which the nearest of its rows differs."""
    names = ("model", "test", "engine", "devices", "settings")
    there = [other.same for other in baseline.rows]
    nearest = max(there, key=lambda other: sum(a == b for a, b in zip(row.same, other, strict=True)), default=None)
    if nearest is None:
        return "it has no results"
    differs = [n for n, a, b in zip(names, row.same, nearest, strict=True) if a != b]
    return f"other {' and '.join(differs)}"


def _identity(machine: Mapping[str, Any]) -> dict[str, Any]:
    host = machine.get("host") or {}
    return {
        "devices": ", ".join(d.get("description", "") for d in machine.get("devices") or ()) or "none",
        "cores": host.get("logical_cores"),
        "memory": f"{(host.get('total_bytes') or 0) / GIB:.0f} GiB",
        "system": f"{host.get('os')} {host.get('arch')}",
    }
