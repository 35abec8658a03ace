"""The side that runs in a child: llama-cpp-python's own quantizer, told as llama-quantize is told."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qwenops import llama_library
from qwenops.errors import BadInput, PartMissing
from qwenops.model.imatrix import Weights, read_imatrix

Emit = Callable[..., None]
_TENSOR = re.compile(r"^\[ *(\d+)/ *(\d+)\]")
_ERROR_LEVEL = 4  # GGML_LOG_LEVEL_ERROR (ggml/include/ggml.h)
_INT, _STRING = 0, 3  # LLAMA_KV_OVERRIDE_TYPE_INT and _STR (include/llama.h)


def quantize(request: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Make one quant of the request's source at its target."""
    said: list[str] = []

    def heard(level: int, text: str) -> None:
        if match := _TENSOR.match(text):
            emit("tensor", done=int(match[1]), of=int(match[2]))
        elif level >= _ERROR_LEVEL and (line := text.strip(" \n=")):
            said.append(line)
            llama_library.errors_to_stderr(level, text)

    lib = llama_library.load(heard)
    params = lib.llama_model_quantize_default_params()
    params.ftype, params.nthread = request["ftype"], request["threads"]
    params.allow_requantize, params.pure = request["allow_requantize"], request["pure"]
    params.quantize_output_tensor = not request["leave_output"]
    if request["output_type"] is not None:
        params.output_tensor_type = request["output_type"]
    if request["embedding_type"] is not None:
        params.token_embedding_type = request["embedding_type"]
    kept = [_overrides(lib, params, request["overrides"])]  # what C points to must not be collected
    if request["imatrix"] is not None:
        kept.append(_imatrix(lib, params, read_imatrix(Path(request["imatrix"]))))
    source, target = request["source"], request["target"]
    if lib.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)) != 0:
        why = said[-1].removeprefix("llama_model_quantize: failed to quantize: ") if said else "it does not say why"
        raise BadInput(f"llama-cpp-python {lib.version} cannot quantize {source}: {why}")
    del kept
    return {"engine": {"name": "llama-cpp-python", "version": lib.version}}


def _overrides(lib: Any, params: Any, overrides: list[tuple[str, int]]) -> Any:
    """Patterns of tensors with the type of each, ended by a row of nothing."""
    if not overrides:
        return None
    _check_known(lib, "llama_model_tensor_override")
    rows = (lib.llama_model_tensor_override * (len(overrides) + 1))()
    for row, (pattern, type_) in zip(rows, overrides, strict=False):
        row.pattern, row.type = pattern.encode(), type_
    params.tt_overrides = ctypes.cast(rows, type(params.tt_overrides))
    return rows


def _imatrix(lib: Any, params: Any, weights: Weights) -> Any:
    """The values, and the keys that tell of them in the file."""
    _check_known(lib, "llama_model_imatrix_data")
    rows = (lib.llama_model_imatrix_data * (len(weights.values) + 1))()
    floats = ctypes.POINTER(ctypes.c_float)
    for row, (name, values) in zip(rows, sorted(weights.values.items()), strict=False):
        row.name, row.data, row.size = name.encode(), values.ctypes.data_as(floats), len(values)
    params.imatrix = ctypes.cast(rows, type(params.imatrix))
    told = weights.about.keys()
    keys = (lib.llama_model_kv_override * (len(told) + 1))()
    for row, (key, value) in zip(keys, told.items(), strict=False):
        row.key = key.encode()
        if isinstance(value, int):
            row.tag, row.value.val_i64 = _INT, value
        else:
            row.tag, row.value.val_str = _STRING, value.encode()
    params.kv_overrides = ctypes.cast(keys, type(params.kv_overrides))
    return rows, keys, weights


def _check_known(lib: Any, name: str) -> None:
    if not hasattr(lib, name):
        raise PartMissing(f"llama-cpp-python {lib.version} cannot be told that", do=llama_library.UPDATE)
