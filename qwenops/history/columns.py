"""Between the values of the history and the columns of its tables: JSON as canonical text, times in UTC."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from qwenops.errors import BadInput
from qwenops.history.rows import LoadRow, MadeRow, Outcome, PlanRow, RecipeRow, ResultRow

WORDS = ("kind", "model", "test", "quant", "model_key", "unit", "run", "engine", "device")
MAPPINGS = ("settings", "machine", "evidence")


def plan_of(row: Any) -> PlanRow:
    """A row of `plans` as a value."""
    return PlanRow(row["id"], _time(row["created"]), row["model_key"], json.loads(row["plan"]))


def load_of(row: Any) -> LoadRow:
    """A row of `loads` as a value."""
    return LoadRow(
        id=row["id"],
        created=_time(row["created"]),
        model_key=row["model_key"],
        settings_key=row["settings_key"],
        runtime_build=row["runtime_build"],
        device=row["device"],
        predicted=json.loads(row["predicted"]),
        measured=None if row["measured"] is None else json.loads(row["measured"]),
        ok=None if row["ok"] is None else bool(row["ok"]),
    )


def result_of(row: Any) -> ResultRow:
    """A row of `results` as a value."""
    return ResultRow(
        id=row["id"],
        created=_time(row["created"]),
        samples=tuple(json.loads(row["samples"])),
        **{name: row[name] for name in WORDS},
        **{name: json.loads(row[name]) for name in MAPPINGS},
    )


def plan_columns(row: PlanRow) -> dict[str, Any]:
    """A plan as the columns that it is kept in, without its id."""
    return {"created": to_text(row.created), "model_key": row.model_key, "plan": to_json(row.plan)}


def load_columns(row: LoadRow) -> dict[str, Any]:
    """A load as the columns that it is kept in, without its id."""
    return {
        "created": to_text(row.created),
        "model_key": row.model_key,
        "settings_key": row.settings_key,
        "runtime_build": row.runtime_build,
        "device": row.device,
        "predicted": to_json(row.predicted),
        "measured": None if row.measured is None else to_json(row.measured),
        "ok": None if row.ok is None else int(row.ok),
    }


def result_columns(outcome: Outcome) -> dict[str, str]:
    """An outcome as the columns that it is kept in, without its id and its time."""
    return {
        "samples": to_json(list(outcome.samples)),
        **{name: getattr(outcome, name) for name in WORDS},
        **{name: to_json(getattr(outcome, name)) for name in MAPPINGS},
    }


def made_of(row: Any) -> MadeRow:
    """A row of `made` as a value."""
    return MadeRow(
        id=row["id"],
        created=_time(row["created"]),
        kind=row["kind"],
        name=row["name"],
        location=row["location"],
        details=json.loads(row["details"]),
        removed=None if row["removed"] is None else _time(row["removed"]),
    )


def recipe_of(row: Any) -> RecipeRow:
    """A row of `recipes` as a value."""
    return RecipeRow(row["id"], _time(row["created"]), row["name"], row["place"], json.loads(row["recipe"]))


def to_json(value: Any) -> str:
    """Canonical JSON, so that equal values are equal text. Raises BadInput for what JSON cannot say."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        text.encode()  # half of a surrogate pair is a string to Python and to nobody else
        return text
    except (TypeError, ValueError) as error:
        raise BadInput(f"the history keeps plain JSON values only: {error}") from error


def to_text(when: datetime) -> str:
    """A moment in UTC, as text that sorts by time."""
    return when.astimezone(timezone.utc).isoformat(timespec="microseconds")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
