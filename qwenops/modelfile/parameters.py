"""The PARAMETERs that Ollama knows, their types and ranges (api/types.go and parser/parser.go of 0.32.14)."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

from qwenops.errors import BadInput

Kind = Literal["integer", "number", "boolean", "texts"]


@dataclass(frozen=True)
class Parameter:
    """One parameter: its type, and the range in which it means something (None leaves an edge open)."""

    kind: Kind
    low: float | None = None
    high: float | None = None


PARAMETERS: dict[str, Parameter] = {
    "num_ctx": Parameter("integer", 4),
    "num_batch": Parameter("integer", 1),
    "num_gpu": Parameter("integer", -1),
    "main_gpu": Parameter("integer", 0),
    "use_mmap": Parameter("boolean"),
    "num_thread": Parameter("integer", 0),
    "draft_num_predict": Parameter("integer", 0),
    "num_keep": Parameter("integer", -1),
    "seed": Parameter("integer"),
    "num_predict": Parameter("integer", -2),
    "top_k": Parameter("integer", 0),
    "top_p": Parameter("number", 0, 1),
    "min_p": Parameter("number", 0, 1),
    "typical_p": Parameter("number", 0, 1),
    "repeat_last_n": Parameter("integer", -1),
    "temperature": Parameter("number", 0, 2),
    "repeat_penalty": Parameter("number", 0.01, 2),
    "presence_penalty": Parameter("number", -2, 2),
    "frequency_penalty": Parameter("number", -2, 2),
    "stop": Parameter("texts"),
}
DEPRECATED = (
    "penalize_newline",
    "low_vram",
    "f16_kv",
    "logits_all",
    "vocab_only",
    "use_mlock",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
)
"""Ollama skips these with a warning."""

_OTHER_NAMES = {
    "repetition_penalty": "repeat_penalty",
    "rep_pen": "repeat_penalty",
    "repeat_pen": "repeat_penalty",
    "presence": "presence_penalty",
    "max_tokens": "num_predict",
    "max_new_tokens": "num_predict",
    "max_completion_tokens": "num_predict",
    "n_predict": "num_predict",
    "ctx_size": "num_ctx",
    "context_length": "num_ctx",
    "context_size": "num_ctx",
    "max_model_len": "num_ctx",
    "n_ctx": "num_ctx",
    "ngl": "num_gpu",
    "n_gpu_layers": "num_gpu",
    "gpu_layers": "num_gpu",
    "num_gpu_layers": "num_gpu",
    "n_batch": "num_batch",
    "batch_size": "num_batch",
    "threads": "num_thread",
    "num_threads": "num_thread",
    "temp": "temperature",
    "stop_token": "stop",
    "stop_sequence": "stop",
    "mmap": "use_mmap",
}
_SETTINGS = {
    "kv_cache_type": "OLLAMA_KV_CACHE_TYPE",
    "cache_type_k": "OLLAMA_KV_CACHE_TYPE",
    "cache_type_v": "OLLAMA_KV_CACHE_TYPE",
    "flash_attn": "OLLAMA_FLASH_ATTENTION",
    "flash_attention": "OLLAMA_FLASH_ATTENTION",
    "num_parallel": "OLLAMA_NUM_PARALLEL",
    "keep_alive": "OLLAMA_KEEP_ALIVE",
    "image_max_tokens": "LLAMA_ARG_IMAGE_MAX_TOKENS",
    "n_cpu_moe": "LLAMA_ARG_N_CPU_MOE",
}
"""What people write as a PARAMETER, but is a setting of the whole server."""

_INTEGER = re.compile(r"[+-]?[0-9]+")
# Go takes an underscore between digits, and hexadecimal floats, which need their exponent (strconv.ParseFloat).
_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_HEX_DIGITS = r"[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*"
_DECIMAL = re.compile(rf"[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?")
_HEXADECIMAL = re.compile(rf"[+-]?0[xX](?:_?{_HEX_DIGITS}(?:\.(?:{_HEX_DIGITS})?)?|\.{_HEX_DIGITS})[pP][+-]?{_DIGITS}")
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
_LARGEST_FLOAT32 = 3.4028235677973366e38
"""Half a step above the largest: what is below it still rounds to a finite number."""


def typed(name: str, text: str) -> int | float | bool | str:
    """A parameter's value as Ollama types it. Raises BadInput for an unknown name or a value of another type."""
    parameter = PARAMETERS.get(name)
    if parameter is None:
        raise BadInput(f"unknown parameter {name!r}", do=instead_of(name))
    if parameter.kind == "texts":
        return text
    value: int | float | bool | None
    if parameter.kind == "integer":
        value = _integer(text)
    elif parameter.kind == "number":
        value = _number(text)
    else:
        value = _BOOLEANS.get(text)
    if value is None:
        article = "an" if parameter.kind == "integer" else "a"
        raise BadInput(f"{name} must be {article} {parameter.kind}, not {text!r}", do=_right_value(name, text))
    return value


def instead_of(name: str) -> str:
    """What was probably meant by a name that Ollama does not know, as advice; empty when nothing is near."""
    lowered = name.lower()
    if lowered in _SETTINGS:
        return f"{name} is no PARAMETER but a setting of the server: {_SETTINGS[lowered]}"
    near = _OTHER_NAMES.get(lowered) or (lowered if lowered in PARAMETERS else None)
    if near is None:
        near = next(iter(difflib.get_close_matches(lowered, PARAMETERS, n=1, cutoff=0.7)), None)
    return f"write {near}" if near else ""


def _right_value(name: str, text: str) -> str:
    if "#" in text:
        return "a comment needs a line of its own: here it is part of the value"
    if PARAMETERS[name].kind == "integer" and _DECIMAL.fullmatch(text) and float(text).is_integer():
        return f"write {name} {int(float(text))}"
    return ""


def _integer(text: str) -> int | None:
    value = int(text) if _INTEGER.fullmatch(text) and len(text) < 64 else None
    return value if value is not None and -(2**63) <= value < 2**63 else None


def _number(text: str) -> float | None:
    """A finite 32-bit float as Go reads it; infinities and NaN are left out, since JSON cannot hold them."""
    if _DECIMAL.fullmatch(text):
        value = float(text)
    elif _HEXADECIMAL.fullmatch(text):
        value = _hexadecimal(text.replace("_", ""))
    else:
        return None
    return value if abs(value) < _LARGEST_FLOAT32 else None


def _hexadecimal(text: str) -> float:
    try:
        return float.fromhex(text)
    except OverflowError:
        return float("inf")
