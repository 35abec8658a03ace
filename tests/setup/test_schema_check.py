"""A light look at JSON answers: what is wrong is named with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qwenops.errors import BadInput
from qwenops.setup.schema_check import problem, read_schema

INVOICE: dict[str, Any] = {
    "type": "object",
    "required": ["number", "lines"],
    "properties": {
        "number": {"type": "string"},
        "total": {"type": ["number", "null"]},
        "paid": {"type": "boolean"},
        "currency": {"enum": ["EUR", "CHF"]},
        "kind": {"const": "invoice"},
        "lines": {
            "type": "array",
            "items": {"type": "object", "required": ["text"], "properties": {"count": {"type": "integer"}}},
        },
    },
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({}, None, id="right"),
        pytest.param({"total": None}, None, id="one of several types"),
        pytest.param({"lines": [{"text": "a", "count": 2.0}]}, None, id="a whole number with a point"),
        pytest.param({"more": 1}, None, id="more than was asked for"),
        pytest.param({"number": 7}, "the answer.number is no string", id="a wrong type"),
        pytest.param({"paid": 1}, "the answer.paid is no boolean", id="a number is no boolean"),
        pytest.param({"total": True}, "the answer.total is no number or null", id="a boolean is no number"),
        pytest.param({"currency": "USD"}, "the answer.currency is none of the values allowed", id="enum"),
        pytest.param({"kind": "letter"}, 'the answer.kind is not "invoice"', id="const"),
        pytest.param({"lines": None}, "the answer.lines is no array", id="null is no array"),
        pytest.param({"lines": [{"text": "a"}, {"count": 1}]}, "the answer.lines[1] lacks 'text'", id="deep inside"),
        pytest.param({"lines": [{"text": "a", "count": 1.5}]}, "the answer.lines[0].count is no integer", id="half"),
    ],
)
def test_an_answer_is_held_against_its_schema(change: dict[str, Any], said: str | None) -> None:
    assert problem(json.dumps({"number": "4", "lines": [], **change}), INVOICE) == said


@pytest.mark.parametrize(
    ("text", "schema", "said"),
    [
        ("", INVOICE, "not JSON"),
        ('{"number": "4"', INVOICE, "not JSON"),
        ("[1]", INVOICE, "the answer is no object"),
        ('{"number": "4"}', INVOICE, "the answer lacks 'lines'"),
        ("[1]", {}, None),
        ("[1]", {"$ref": "#/x", "type": "nonsense", "items": True}, None),
    ],
)
def test_what_is_no_json_or_no_schema(text: str, schema: dict[str, Any], said: str | None) -> None:
    assert problem(text, schema) == said


@pytest.mark.parametrize(
    ("content", "said"), [("[]", "no JSON schema"), ("{", "is not JSON"), (None, "cannot be read")]
)
def test_a_schema_file_that_is_none_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "schema.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BadInput, match=said):
        read_schema(file)
