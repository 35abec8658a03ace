"""PARAMETER values with the types that Ollama gives them. Source: FormatParams and Options, api/types.go, v0.32.14."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from qwenops.errors import BadInput

_INTEGERS = frozenset(
    {"num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "draft_num_predict"}
    | {"num_keep", "seed", "num_predict", "top_k", "repeat_last_n"}
)
_FLOATS = frozenset(
    ("top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty")
)
_BOOLEANS = frozenset({"use_mmap"})
_LISTS = frozenset({"stop"})
# strconv.ParseBool
_TRUE, _FALSE = (
    frozenset({"1", "t", "T", "true", "TRUE", "True"}),
    frozenset({"0", "f", "F", "false", "FALSE", "False"}),
)


def typed_parameters(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The params layer of (name, text) pairs: `stop` gathers a list, of any other repeated name the first counts.

    Raises BadInput for a name that Ollama does not know or a value that its type cannot hold.
    """
    typed: dict[str, Any] = {}
    for name, text in pairs:
        if name in _LISTS:
            typed.setdefault(name, []).append(text)
        elif name not in typed:
            typed[name] = _typed(name, text)
    return typed


def _typed(name: str, text: str) -> Any:
    try:
        if name in _INTEGERS:
            return int(text, 10)
        if name in _FLOATS:
            value = float(text)
            if math.isfinite(value):
                return value
            raise ValueError(text)
    except ValueError:
        kind = "a whole number" if name in _INTEGERS else "a number"
        raise BadInput(f"PARAMETER {name} {text}: not {kind}", do="correct the line in the Modelfile") from None
    if name in _BOOLEANS:
        if text not in _TRUE | _FALSE:
            raise BadInput(f"PARAMETER {name} {text}: neither true nor false", do="correct the line in the Modelfile")
        return text in _TRUE
    known = ", ".join(sorted(_INTEGERS | _FLOATS | _BOOLEANS | _LISTS))
    raise BadInput(f"PARAMETER {name}: Ollama has no such parameter", do=f"it knows {known}")
