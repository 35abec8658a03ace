"""The side of a dry load that runs in a child: llama-cpp-python loads a model without memory, then makes contexts.

With no_alloc the library creates every tensor and reserves every graph and allocates nothing for them
(include/llama.h; read in the llama.cpp of llama-cpp-python 0.3.36). One load of the model serves all contexts.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from qwenops import llama_library
from qwenops.errors import BadInput, PartMissing

Emit = Callable[..., None]
_ERROR_LEVEL = 4
_WANTED = ("buffer size", ": size =", "Flash Attention", "flash_attn", "offloaded")
_MODEL_FIELDS = ("devices", "n_gpu_layers", "tensor_split", "load_mode", "use_extra_bufts", "no_alloc")
_CONTEXT_FIELDS = ("flash_attn_type", "kv_unified", "swa_full", "n_outputs_max")
_FLASH = {"auto": -1, "off": 0, "on": 1}
_BREAKDOWN = "_Z26llama_get_memory_breakdownPK13llama_context"


def dry_load(request: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Sizes for every context of the request, in its order, as what was logged and the library's own breakdown.

    The request names the `file`, the `devices` to use (the answer's `has_devices` says whether the library has them
    all; without them everything is loaded for the CPU) and the `contexts`.
    """
    log = _Log()
    lib = llama_library.load(log)
    _check_age(lib)
    devices = _find_devices(lib, request["devices"])
    contexts = [c if devices else {**c, "gpu_layers": 0} for c in request["contexts"]]
    loads: dict[int, dict[str, Any]] = {}
    order = sorted(range(len(contexts)), key=lambda i: int(contexts[i]["gpu_layers"]))
    for layers, numbers in groupby(order, key=lambda i: int(contexts[i]["gpu_layers"])):
        model = _load(lib, request, devices or (), layers, log)
        try:
            for number in numbers:
                loads[number] = _measure(lib, model, contexts[number], log)
        finally:
            lib.llama_model_free(model)
    return {
        "version": lib.version,
        "has_devices": devices is not None,
        "loads": [loads[i] for i in range(len(contexts))],
    }


class _Log:
    """What the library says about sizes since the last `clear`, and its first error; errors go to stderr as well."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.error = ""

    def __call__(self, level: int, text: str) -> None:
        self.parts.append(text)
        if level == _ERROR_LEVEL:
            self.error = self.error or text.strip()
        llama_library.errors_to_stderr(level, text)

    def clear(self) -> None:
        self.parts.clear()
        self.error = ""

    def sizes(self) -> list[str]:
        lines = "".join(self.parts).splitlines()
        return [line for line in lines if any(word in line for word in _WANTED)]


def _check_age(lib: Any) -> None:
    """Refuse a library whose structures lack what a dry load sets."""
    for structure, wanted in ((lib.llama_model_params, _MODEL_FIELDS), (lib.llama_context_params, _CONTEXT_FIELDS)):
        there = {field[0] for field in structure._fields_}
        if missing := [name for name in wanted if name not in there]:
            raise PartMissing(
                f"llama-cpp-python {lib.version} is too old for a dry load: it has no {missing[0]}",
                do=llama_library.UPDATE,
            )


def _find_devices(lib: Any, wanted: Sequence[Mapping[str, str]]) -> tuple[int, ...] | None:
    """The library's handles of the devices that are asked for; None where it lacks one of them."""
    if not wanted:
        return ()
    functions = _Functions(lib)
    there = {}
    for handle in functions.devices():
        there[functions.text("ggml_backend_dev_name", handle)] = handle
    found = []
    for device in wanted:
        handle = there.get(device["name"], 0)
        if not handle or device["description"] not in ("", functions.text("ggml_backend_dev_description", handle)):
            return None
        found.append(handle)
    return tuple(found)


def _load(lib: Any, request: Mapping[str, Any], devices: Sequence[int], layers: int, log: _Log) -> Any:
    params = lib.llama_model_default_params()
    params.no_alloc = True
    params.load_mode = lib.LLAMA_LOAD_MODE_NONE  # a mapped file and no_alloc exclude each other: the library aborts
    params.use_extra_bufts = False  # repacked weights would be counted under another name
    params.n_gpu_layers = layers
    chosen = (ctypes.c_void_p * (len(devices) + 1))(*devices, None)
    params.devices = ctypes.cast(chosen, ctypes.c_void_p)
    if len(devices) > 1:
        shares = (ctypes.c_float * max(lib.llama_max_devices(), len(devices)))(*request["shares"])
        params.tensor_split = ctypes.cast(shares, ctypes.POINTER(ctypes.c_float))
    log.clear()
    model = lib.llama_model_load_from_file(request["file"].encode(), params)
    if not model:
        raise PartMissing(
            f"llama-cpp-python {lib.version} does not load {request['name']}{_because(log)}",
            do=f"a newer library may know the architecture: {llama_library.UPDATE}",
        )
    return model


def _measure(lib: Any, model: Any, wanted: Mapping[str, Any], log: _Log) -> dict[str, Any]:
    params = lib.llama_context_default_params()
    for name in (
        "n_ctx",
        "n_batch",
        "n_ubatch",
        "n_seq_max",
        "n_outputs_max",
        "type_k",
        "type_v",
        "swa_full",
        "kv_unified",
    ):
        setattr(params, name, wanted[name])
    params.flash_attn_type = _FLASH[wanted["flash_attn"]]
    log.clear()
    context = lib.llama_init_from_model(model, params)
    if not context:
        raise BadInput(
            f"llama-cpp-python {lib.version} makes no context of {params.n_ctx} tokens{_because(log)}",
            do="a quantized cache needs flash attention; a smaller context, or another type of cache",
        )
    try:
        return {"log": log.sizes(), "breakdown": _breakdown(lib, context)}
    finally:
        lib.llama_free(context)


def _because(log: _Log) -> str:
    return f": {log.error}" if log.error else ""


# --- the library's own breakdown, which has no C interface


class _Functions:
    """ggml's functions on handles; the low-level module declares none of them."""

    def __init__(self, lib: Any) -> None:
        self._libraries = [lib._lib]
        if sys.platform == "win32":  # elsewhere a library shows the symbols of those that it needs
            self._libraries += [ctypes.CDLL(name) for name in ("ggml.dll", "ggml-base.dll")]

    def _get(self, name: str, result: Any, *arguments: Any) -> Any:
        for library in self._libraries:
            if hasattr(library, name):
                function = library[name]  # an own object, so that nobody else's declaration is changed
                function.restype, function.argtypes = result, arguments
                return function
        raise PartMissing(f"the library of llama-cpp-python lacks {name}", do=llama_library.UPDATE)

    def devices(self) -> Iterator[int]:
        count = self._get("ggml_backend_dev_count", ctypes.c_size_t)()
        get = self._get("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
        yield from (get(i) for i in range(count))

    def text(self, name: str, handle: int) -> str:
        return bytes(self._get(name, ctypes.c_char_p, ctypes.c_void_p)(handle) or b"").decode("utf-8", "replace")

    def is_host(self, buffer_type: int) -> bool:
        return bool(self._get("ggml_backend_buft_is_host", ctypes.c_bool, ctypes.c_void_p)(buffer_type))

    def device_of(self, buffer_type: int) -> str | None:
        device = self._get("ggml_backend_buft_get_device", ctypes.c_void_p, ctypes.c_void_p)(buffer_type)
        return self.text("ggml_backend_dev_name", device) if device else None


class _Map(ctypes.Structure):
    """A std::map of libstdc++: its comparison, the header node (colour, root, first, last) and the count."""

    _fields_ = (
        ("compare", ctypes.c_uint64),
        ("colour", ctypes.c_uint64),
        ("root", ctypes.c_uint64),
        ("first", ctypes.c_uint64),
        ("last", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
    )


class _Node(ctypes.Structure):
    """A node of that map from buffer type to its sizes."""

    _fields_ = (
        ("colour", ctypes.c_uint64),
        ("parent", ctypes.c_uint64),
        ("left", ctypes.c_uint64),
        ("right", ctypes.c_uint64),
        ("buffer_type", ctypes.c_uint64),
        ("model", ctypes.c_uint64),
        ("context", ctypes.c_uint64),
        ("compute", ctypes.c_uint64),
    )


def _breakdown(lib: Any, context: Any) -> list[dict[str, Any]] | None:
    """Bytes by buffer type from llama_get_memory_breakdown (src/llama-ext.h), whose result is a C++ map.

    None where this machine's C++ library is not the one whose map is known here. The reader must hold the figures
    against the log's before it believes them.
    """
    known = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64") and hasattr(lib._lib, _BREAKDOWN)
    if not known:
        return None
    function = lib._lib[_BREAKDOWN]
    function.restype, function.argtypes = _Map, [ctypes.c_void_p]
    found = function(context)
    functions = _Functions(lib)
    nodes = list(_nodes(found.root)) if 0 < found.count < 1000 else []
    if len(nodes) != found.count:
        return None
    return [
        {
            "device": None if functions.is_host(n.buffer_type) else functions.device_of(n.buffer_type),
            "model": n.model,
            "context": n.context,
            "compute": n.compute,
        }
        for n in nodes
    ]


def _nodes(address: int) -> Iterator[_Node]:
    if address:
        node = _Node.from_address(address)
        yield from _nodes(node.left)
        yield node
        yield from _nodes(node.right)
