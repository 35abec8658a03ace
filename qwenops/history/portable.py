"""The history's rows as lines that another history takes in: one JSON object a row, with its schema in it.

docs/history.md lists the fields. A field that is added later is passed over by an older reader; one that changes its
meaning makes a new version of the schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, get_args

from qwenops.errors import BadInput
from qwenops.history.columns import MAPPINGS, WORDS
from qwenops.history.rows import TABLES, Learned, LoadRow, PlanRow, ResultKind, ResultRow

_NAME: Final = "qwenops.history-row"
SCHEMA: Final = f"{_NAME}/1"

_KINDS: Final = {str: "text", dict: "an object", list: "a list", bool: "true or false"}


def is_line(value: Mapping[str, Any]) -> bool:
    """Whether a JSON object says of itself that it is a row of a history, of whatever version."""
    schema = value.get("schema")
    return isinstance(schema, str) and schema.split("/")[0] == _NAME


def to_line(row: Learned) -> dict[str, Any]:
    """A row as plain JSON values, its table and its number first."""
    when = row.created.isoformat(timespec="microseconds")
    if isinstance(row, PlanRow):
        about = _head("plans", row.id, when)
        return {**about, "model_key": row.model_key, "plan": dict(row.plan)}
    if isinstance(row, LoadRow):
        about = _head("loads", row.id, when)
        keys = ("model_key", "settings_key", "runtime_build", "device", "predicted", "measured", "ok")
        return {**about, **{key: getattr(row, key) for key in keys}}
    about = _head("results", row.id, when)
    return {**about, **{key: getattr(row, key) for key in (*WORDS, *MAPPINGS)}, "samples": list(row.samples)}


def from_line(line: Mapping[str, Any]) -> Learned:
    """The row of a line, numbered 0: another history numbers it anew. Raises BadInput, naming the field."""
    if line.get("schema") != SCHEMA:
        raise BadInput(f"its schema is {line.get('schema')!r}, and this version of qwenops reads {SCHEMA}")
    table = line.get("table")
    if table not in TABLES:
        raise BadInput(f"its table is {table!r}, not one of {', '.join(TABLES)}")
    created = _time(_field(line, "created", str))
    if table == "plans":
        return PlanRow(0, created, _field(line, "model_key", str), _field(line, "plan", dict))
    if table == "loads":
        return LoadRow(
            id=0,
            created=created,
            **{key: _field(line, key, str) for key in ("model_key", "settings_key", "runtime_build", "device")},
            predicted=_field(line, "predicted", dict),
            measured=None if line.get("measured") is None else _field(line, "measured", dict),
            ok=None if line.get("ok") is None else _field(line, "ok", bool),
        )
    words: dict[str, Any] = {key: _field(line, key, str) for key in WORDS}
    if words["kind"] not in get_args(ResultKind):
        raise BadInput(f"its kind is {words['kind']!r}, not one of {', '.join(get_args(ResultKind))}")
    mappings: dict[str, Any] = {key: _field(line, key, dict) for key in MAPPINGS}
    return ResultRow(
        id=0,
        created=created,
        **words,
        **mappings,
        samples=tuple(_field(line, "samples", list)),
    )


def _head(table: str, number: int, when: str) -> dict[str, Any]:
    return {"schema": SCHEMA, "table": table, "id": number, "created": when}


def _field(line: Mapping[str, Any], name: str, kind: type) -> Any:
    value = line.get(name)
    if not isinstance(value, kind):
        there = "is missing" if name not in line else f"is not {_KINDS[kind]}"
        raise BadInput(f"its {name} {there}")
    return value


def _time(text: str) -> datetime:
    try:
        when = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise BadInput(f"its time {text!r} is not a time with its zone, such as 2026-12-01T09:30:00+00:00")
    return when
