"""A real load through llama-cpp-python, for a child process: what each buffer was, as the library logged it.

run("tests.support.library_load:load_for_real", {"file": ..., "contexts": [...]}, limit_s=60)["logs"]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qwenops import llama_library
from qwenops.memory.quants import kv_type_number
from qwenops.memory.types import LoadSettings

FLASH = {"auto": -1, "off": 0, "on": 1}


def load_for_real(request: Mapping[str, Any], emit: Callable[..., None]) -> dict[str, Any]:
    """Load the request's file on the CPU, mapped and not repacked, and make each context: the log of every one."""
    lines: list[str] = []
    lib = llama_library.load(lambda level, text: lines.append(text))
    params = lib.llama_model_default_params()
    params.n_gpu_layers = 0
    params.use_extra_bufts = False
    model = lib.llama_model_load_from_file(request["file"].encode(), params)
    loaded = "".join(lines)
    assert model, loaded[-2000:]
    logs = []
    for settings in request["settings"]:
        lines.clear()
        context = lib.llama_init_from_model(model, _context_params(lib, LoadSettings(**settings)))
        assert context, "".join(lines)[-2000:]
        lib.llama_free(context)
        logs.append(loaded + "".join(lines))
    lib.llama_model_free(model)
    return {"logs": logs, "version": lib.version}


def _context_params(lib: Any, settings: LoadSettings) -> Any:
    params = lib.llama_context_default_params()
    params.n_ctx = settings.num_ctx * settings.parallel
    params.n_seq_max = settings.parallel
    params.n_batch, params.n_ubatch = settings.batch, settings.ubatch
    params.type_k, params.type_v = kv_type_number(settings.kv_type_k), kv_type_number(settings.kv_type_v)
    params.flash_attn_type = FLASH[settings.flash_attn]
    params.swa_full = settings.swa_full
    params.kv_unified = settings.kv_unified
    if settings.outputs == "server":
        params.n_outputs_max = settings.parallel
    return params
