"""A context's threads, as llama-bench and llama-server keep them; in a child process only."""

from __future__ import annotations

import ctypes
from typing import Any


class _ThreadpoolParams(ctypes.Structure):
    """ggml_threadpool_params (ggml/include/ggml.h)."""

    _fields_ = (
        ("cpumask", ctypes.c_bool * 512),
        ("n_threads", ctypes.c_int),
        ("prio", ctypes.c_int),
        ("poll", ctypes.c_uint32),
        ("strict_cpu", ctypes.c_bool),
        ("paused", ctypes.c_bool),
    )


def attach_threadpool(lib: Any, context: Any, threads: int) -> None:
    """Threads that stay between decodes, as llama-bench and llama-server have them.

    Without them each decode starts its own where the library was built without OpenMP. A library that lacks the
    functions goes on without.
    """
    try:
        library = lib._lib
        defaults, make, attach = (
            library["ggml_threadpool_params_default"],
            library["ggml_threadpool_new"],
            library["llama_attach_threadpool"],
        )
    except (AttributeError, KeyError):
        return
    defaults.restype, defaults.argtypes = _ThreadpoolParams, [ctypes.c_int]
    make.restype, make.argtypes = ctypes.c_void_p, [ctypes.POINTER(_ThreadpoolParams)]
    attach.restype, attach.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    wanted = defaults(threads)
    pool = make(ctypes.byref(wanted)) if wanted.n_threads == threads else None
    if pool:
        attach(context, pool, None)
