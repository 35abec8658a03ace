"""One line that says what to run and why: the plan's choice, with what was measured, what was not, and what to run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qwenops.errors import BadInput
from qwenops.result import Result
from qwenops.setup.given import Given


def recommend_result(
    given: tuple[Given, ...], mmproj: Given | None, *, gpu: str | None, task: str, **pins: Any
) -> Result:
    """The variant and the settings to run, as a plan finds them ("qwenops.recommend/1"); exit codes as of a plan.

    Without a model it is the one that was set up here, where there is only one.
    """
    from qwenops.setup.answers import make_plan, plan_as_result

    notes: tuple[str, ...] = ()
    if not given:
        given, name = _set_up_here()
        notes = (f"{' '.join(map(str, given))}: what {name} was set up from",)
    made, machine, runtime = make_plan(given, mmproj, gpu=gpu, task=task, drawn=True, **pins)
    plan = plan_as_result(made, machine, runtime)
    measured = made.measured
    data = {
        "profile": made.profile,
        "fits": made.fits,
        "line": _line(plan.data["choice"]),
        "why": _why(plan.data),
        "measured": bool(measured["beside"]),
        "front": [row["quant"] for row in measured["variants"] if row["standing"] == "front"],
        "variants": measured["variants"],
        "set_aside": measured["set_aside"],
        "missing": measured["missing"],
        "next": measured["next"],
        "plan": plan.data,
    }
    return Result("qwenops.recommend/1", data, notes=(*notes, *plan.notes), exit_code=plan.exit_code)


def _line(choice: Mapping[str, Any] | None) -> str:
    """The choice in one line; empty where nothing fits."""
    from qwenops.report.plan import choice_line

    return choice_line(choice) if choice else ""


def _why(plan: Mapping[str, Any]) -> list[str]:
    """What decided: the measurement that put it first, or the bits; then every rival that was measured beside it."""
    choice, measured = plan["choice"], plan["measured"]
    if not choice:
        return []
    start = f"{choice['quant']} before "
    said = [reason for reason in plan["reasons"] if reason.startswith((start, f"{choice['quant']}: "))]
    named = said[0][len(start) :].split(":")[0] if said and said[0].startswith(start) else ""
    said += [f"beside {one['quant']}: {one['words']}" for one in measured["beside"] if one["quant"] != named]
    return said


def _set_up_here() -> tuple[tuple[Given, ...], str]:
    """What the models that were set up here were made of, where that is one thing, with one of their names."""
    from pathlib import Path

    from qwenops import history

    with history.open() as kept:
        asked = {tuple(row.recipe.get("asked") or ()): row.name for row in kept.recipes()}
    asked.pop((), None)
    if len(asked) == 1:
        ((words, name),) = asked.items()
        return tuple(Path(word) if Path(word).is_absolute() else word for word in words), name
    if not asked:
        raise BadInput("which model?", do=("qwenops recommend MODEL --for ocr", "qwenops models     (what there is)"))
    known = [f"qwenops recommend {' '.join(words)}     ({name})" for words, name in asked.items()]
    raise BadInput(f"{len(asked)} models were set up here: name one", do=tuple(known[:8]))
