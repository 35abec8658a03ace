"""Every variant of a plan with what is known of it: size, memory, what fits, what was measured, who is on the front.

Memory is that of the task at its smallest context and micro-batch, the same for every variant: what a plan does with
the room that a smaller one leaves is not the variant's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from qwenops.plan.beside import Load
from qwenops.plan.front import Mark, Place, front
from qwenops.plan.intervals import Interval
from qwenops.plan.measured import Evidence, Measured
from qwenops.plan.profile import Profile
from qwenops.plan.search import Scene
from qwenops.plan.types import Choice, Judged

MORE_IS_BETTER = ("pp", "tg", "same top", "vision")


def table(
    searched: Sequence[tuple[Choice, Judged]], measured: Measured, scene: Scene, load: Load, chosen: Judged | None
) -> list[dict[str, Any]]:
    """A row a variant, as plain JSON values; `searched` has the smallest way to run each, and the best that was found.

    `standing` is "front", "behind", "open" (something is not measured of it, or nothing of any) or "no" (it does not
    fit).
    """
    rows = [_row(start, judged, measured, scene, chosen) for start, judged in searched]
    fitting = [n for n, row in enumerate(rows) if row["fits"] == "yes"]
    points = _points([(rows[n], measured.evidence(searched[n][0].model)) for n in fitting], scene.profile, load)
    measured_axes = any(len(point) > 1 for point in points)
    places = front(points) if measured_axes else [Place("open")] * len(points)
    for n, place in zip(fitting, places, strict=True):
        rows[n]["standing"] = place.standing
        rows[n]["behind"] = [rows[fitting[m]]["quant"] for m in place.behind]
    return rows


def _row(start: Choice, judged: Judged, measured: Measured, scene: Scene, chosen: Judged | None) -> dict[str, Any]:
    model, need = start.model, scene.weigh(start, scene.quick).need
    evidence = measured.evidence(model)
    is_chosen = chosen is not None and chosen.choice.model is model
    shown = chosen if is_chosen and chosen else judged
    return {
        "quant": model.quant,
        "file": model.source,
        "file_bytes": model.file_bytes,
        "fits": shown.fits,
        "chosen": is_chosen,
        "num_ctx": shown.choice.settings.num_ctx,
        "memory_bytes": need.total_device_bytes or need.host.total_bytes,
        "standing": "no",
        "behind": [],
        "measured": {name: _figure(evidence, name) for name in sorted(evidence.rows)},
    }


def _figure(evidence: Evidence, name: str) -> dict[str, Any]:
    """A figure with its interval, and of which test under what."""
    row = evidence.rows[name]
    found = evidence.figure(name)
    reference = {"reference_sha256": row.settings["reference_sha256"]} if "reference_sha256" in row.settings else {}
    tokens = {"image_tokens": row.settings["image_tokens"]} if "image_tokens" in row.settings else {}
    when = {
        "test": row.test,
        "engine": row.engine,
        "device": row.device,
        "created": row.created.isoformat("T", "seconds"),
    }
    return {**(asdict(found) if found else {}), **when, **reference, **tokens}


def _points(rows: Sequence[tuple[Mapping[str, Any], Evidence]], task: Profile, load: Load) -> list[dict[str, Mark]]:
    """Each variant's marks: memory, the task's time, and the first of the task's measures that two variants have."""
    held = [evidence for _, evidence in rows]
    best = next((m for m in task.measured if sum(m in one.rows for one in held) > 1), None)
    speeds = [name for name in ("pp", "tg") if any(name in one.rows for one in held)]
    points = []
    for row, evidence in rows:
        marks = {"memory": Mark(*(3 * (-float(row["memory_bytes"]),)))}
        if speeds and all(name in evidence.rows for name in speeds):
            marks["speed"] = _time(evidence, speeds, load)
        if best and (found := evidence.figure(best)):
            marks["fidelity"] = _mark(found, more=best.split(" ")[0] in MORE_IS_BETTER)
        points.append(marks)
    return points


def _time(evidence: Evidence, speeds: Sequence[str], load: Load) -> Mark:
    """The seconds of the task by its measured speeds, less is better."""
    tokens = {"pp": load.prompt_tokens, "tg": load.answer_tokens}
    found = [(tokens[name], evidence.figure(name)) for name in speeds]
    known = [(n, figure) for n, figure in found if figure is not None]
    ends = (sum(n / getattr(f, end) for n, f in known) for end in ("value", "low", "high"))
    return Mark(*(-seconds for seconds in ends))


def _mark(found: Interval, *, more: bool) -> Mark:
    if more:
        return Mark(found.value, found.low, found.high)
    return Mark(-found.value, -found.high, -found.low)
