"""Our JSON against what Go's encoder writes, and a law for floats."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwenops.ollama.gojson import go_json

# Right column: json.NewEncoder(w).Encode of a map[string]any with float32 values, Go 1.26.
CASES: list[tuple[Any, str]] = [
    ({"num_ctx": 4096}, '{"num_ctx":4096}'),
    ({"temperature": 0.7}, '{"temperature":0.7}'),
    ({"temperature": 1.0}, '{"temperature":1}'),
    ({"temperature": 0.0}, '{"temperature":0}'),
    ({"top_p": 0.95}, '{"top_p":0.95}'),
    ({"min_p": 0.000001}, '{"min_p":0.000001}'),
    ({"min_p": 0.0000001}, '{"min_p":1e-7}'),
    ({"presence_penalty": 1.5}, '{"presence_penalty":1.5}'),
    ({"presence_penalty": -0.25}, '{"presence_penalty":-0.25}'),
    ({"min_p": 0.05}, '{"min_p":0.05}'),
    ({"x": 3.4e38}, '{"x":3.4e+38}'),
    ({"x": 1e20}, '{"x":100000000000000000000}'),
    ({"x": 1e21}, '{"x":1e+21}'),
    ({"x": 123456.789}, '{"x":123456.79}'),
    ({"x": 16777216.0}, '{"x":16777216}'),
    ({"use_mmap": True}, '{"use_mmap":true}'),
    ({"stop": ["<|im_end|>", "a & b"]}, '{"stop":["\\u003c|im_end|\\u003e","a \\u0026 b"]}'),
    ({"stop": ['"', "\\", "\n\t\r"]}, '{"stop":["\\"","\\\\","\\n\\t\\r"]}'),
    ({"stop": ["\u2028é汉"]}, '{"stop":["\\u2028é汉"]}'),
    ({"stop": ["\b\f\x01\x7f"]}, '{"stop":["\\b\\f\\u0001\x7f"]}'),
]


@pytest.mark.parametrize(("value", "text"), CASES, ids=[t[:40] for _, t in CASES])
def test_values_are_written_as_go_writes_them(value: Any, text: str) -> None:
    assert go_json(value).decode() == text + "\n"


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@example(3.4025001647762064e38)
def test_a_float_reads_back_as_the_same_float32(value: float) -> None:
    back = json.loads(go_json({"x": value}))["x"]
    assert struct.pack("<f", back) == struct.pack("<f", value) or (back == value == 0)


@given(st.recursive(st.text() | st.integers() | st.booleans(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)))
def test_any_text_reads_back(value: Any) -> None:
    assert json.loads(go_json(value)) == value
