"""A light look at an answer that was to follow a JSON schema: whether it is JSON, and of the shape that was asked for.

Types, required keys, properties, items, enum and const are looked at; whatever else a schema says is taken on trust.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from qwenops.errors import BadInput

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}


def read_schema(path: Path) -> dict[str, Any]:
    """The schema in a file. Raises BadInput where there is no JSON object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise BadInput(f"{path} cannot be read: {e.strerror}") from None
    except ValueError as e:
        raise BadInput(f"{path} is not JSON: {e}") from None
    if not isinstance(value, dict):
        raise BadInput(f"{path} holds no JSON schema: a schema is an object", do='{"type": "object", ...}')
    return value


def problem(text: str, schema: Mapping[str, Any]) -> str | None:
    """What is wrong with an answer, in a few words with its place, or None."""
    try:
        value = json.loads(text)
    except ValueError:
        return "not JSON"
    return _wrong(value, schema, "the answer")


def _wrong(value: Any, schema: Any, place: str) -> str | None:
    if not isinstance(schema, Mapping):
        return None
    wanted = schema.get("type")
    names = [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) else []
    known = [name for name in names if name in _TYPES]
    if known and not any(_is(value, name) for name in known):
        return f"{place} is no {' or '.join(known)}"
    if "const" in schema and value != schema["const"]:
        return f"{place} is not {json.dumps(schema['const'])}"
    if isinstance(schema.get("enum"), list) and value not in schema["enum"]:
        return f"{place} is none of the values allowed"
    if isinstance(value, dict):
        for key in schema.get("required") or ():
            if key not in value:
                return f"{place} lacks {key!r}"
        properties = schema.get("properties") or {}
        inner = ((value[key], part, f"{place}.{key}") for key, part in properties.items() if key in value)
    elif isinstance(value, list):
        inner = ((one, schema.get("items"), f"{place}[{n}]") for n, one in enumerate(value))
    else:
        return None
    return next((found for one, part, where in inner if (found := _wrong(one, part, where))), None)


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])
