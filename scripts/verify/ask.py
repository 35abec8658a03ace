"""Both rungs asked before a load, and the limit of the fit placed near the need where a case wants it."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from qwenops.machine.types import Host
from qwenops.memory.graphs import KNOWN
from qwenops.memory.ladder import need
from qwenops.memory.load_log import parse_load_log
from qwenops.memory.reserve import fit_reserve
from qwenops.memory.types import Band, LoadSettings, Need
from qwenops.model.types import Model
from qwenops.plan.fit import judge
from qwenops.plan.types import Choice
from qwenops.runtime.types import Runtime
from qwenops.units import GIB, MIB
from scripts.verify.cases import Case
from scripts.verify.lab import Lab, versions
from scripts.verify.rows import Row, Verdict, loaded_from, said_by

STEP = 256
# The verdict is about devices; the host has room for these models.
_ROOMY = Host(1024 * GIB, 1024 * GIB, 1, 1, "linux", "x86_64")


def row_of(case: Case, lab: Lab, model: Model, settings: LoadSettings, target_mib: int | None) -> Row:
    """Ask both rungs, load, read the log."""
    probe = asked(model, settings, lab.runtime, "runtime")
    formula = asked(model, settings, lab.runtime, "closed form")
    # Several devices can keep every layer by another split, which only the search itself finds.
    judged = case.devices == 1 and (case.margin is not None or bool(case.edge))
    verdict = _verdict(model, settings, lab.runtime) if judged else None
    started = time.monotonic()
    lines = parse_load_log(lab.load(model, settings))
    return Row(
        case=case,
        num_ctx=settings.num_ctx,
        target_mib=target_mib,
        probe=said_by(probe),
        formula=said_by(formula),
        loaded=loaded_from(lines, tuple(d.name for d in lab.runtime.devices)),
        verdict=verdict,
        replayed=model.architecture in KNOWN,
        seconds=time.monotonic() - started,
        versions=versions(lab.runtime),
        notes=list(formula.notes),
        ghosts=case.ghosts,
    )


def formula_again(row: Row, model: Model, runtime: Runtime) -> Row:
    """A kept row with the closed form's answers as they are now."""
    settings = replace(row.case.settings(), num_ctx=row.num_ctx)
    formula = asked(model, settings, runtime, "closed form")
    verdict = row.verdict
    if verdict is not None:
        whole = asked(model, replace(settings, gpu_layers="all"), runtime, "closed form")
        word, keeps = _judged(model, whole)
        verdict = replace(verdict, formula=word, formula_keeps=keeps)
    known = model.architecture in KNOWN
    return replace(row, formula=said_by(formula), verdict=verdict, replayed=known, notes=list(formula.notes))


def asked(model: Model, settings: LoadSettings, runtime: Runtime, rung: str) -> Need:
    """One rung's answer for the runtime's devices under what its fit keeps free."""
    reserve = fit_reserve(model, settings, runtime.devices, runtime.environment)
    return need(model, settings, runtime.devices, runtime=runtime, rung=rung, reserve_bytes=reserve)


def target_for(case: Case, model: Model, settings: LoadSettings, runtime: Runtime) -> int | None:
    """The fit target, in MiB, that puts the limit as far from the need as the case wants, or on the MiB nearest it."""
    if case.margin is None:
        return None
    whole = asked(model, replace(settings, gpu_layers="all"), runtime, "closed form")
    # One target serves every device: where the most is needed decides, with what the fit counts beyond the buffers.
    needed = max(d.total_bytes - d.overhead_bytes + d.reserve_bytes for d in whole.devices)
    need_bytes = needed - min(d.reserve_bytes for d in whole.devices)
    wanted = need_bytes * (1 + case.margin / 100) / MIB
    limit = math.ceil(wanted) if case.margin > 0 else math.floor(wanted)
    return max(0, min(d.free_bytes for d in runtime.devices) // MIB - limit)


def at_the_edge(case: Case, model: Model, settings: LoadSettings, runtime: Runtime) -> LoadSettings:
    """The settings with the context at the edge that the case wants, as the closed form sees it."""
    if not case.edge:
        return settings

    def fits(step: int) -> bool:
        there = replace(settings, num_ctx=step * STEP, gpu_layers="all")
        return _judged(model, asked(model, there, runtime, "closed form"))[1]

    low, high = 1, model.hparam("context_length") // STEP
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return replace(settings, num_ctx=(low if case.edge == "below" else high) * STEP)


def _verdict(model: Model, settings: LoadSettings, runtime: Runtime) -> Verdict:
    whole = replace(settings, gpu_layers="all")
    probe, formula = (asked(model, whole, runtime, rung) for rung in ("runtime", "closed form"))
    word, keeps = _judged(model, formula)
    need_bytes, limit_bytes = max(
        ((d.total_bytes - d.overhead_bytes, d.free_bytes - d.reserve_bytes) for d in probe.devices),
        key=lambda sizes: sizes[0] - sizes[1],
    )
    return Verdict(
        need_bytes=need_bytes,
        limit_bytes=limit_bytes,
        probe_keeps=_judged(model, probe)[1],
        formula=word,
        formula_keeps=keeps,
    )


def _judged(model: Model, whole: Need) -> tuple[str, bool]:
    """The planner's verdict where what the runtime keeps free is not to be had: with the band, and without it."""
    within = tuple(
        replace(d, free_bytes=d.free_bytes - d.reserve_bytes, reserve_bytes=0, overhead_bytes=0) for d in whole.devices
    )
    outside = sum(d.overhead_bytes for d in whole.devices)
    band = Band(whole.band.low - outside, whole.band.high - outside)
    choice = Choice(model, whole.settings, images=0)
    judged = judge(choice, replace(whole, devices=within, band=band), host=_ROOMY, headroom_bytes=0)
    return judged.fits, judged.runtime_keeps_all
