"""The side that runs in a child: load a model with llama-cpp-python's low-level API and time its decode calls.

The loops follow what llama-bench times (tools/llama-bench/llama-bench.cpp, test_prompt and test_gen, b10435): random
tokens, one warm-up, a cleared cache before each repetition, the depth filled outside the clock.
"""

from __future__ import annotations

import random
import resource
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from qwenops import llama_library
from qwenops.errors import BadInput

Emit = Callable[..., None]
_SAMPLE_EVERY_S = 0.1


def speed(request: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Run every test of the request on one model; emits an event after each repetition."""
    lib = llama_library.load()
    settings = request["settings"]
    watch = _DeviceWatch()
    started = time.perf_counter()
    model = _load(lib, request["file"], settings)
    load_seconds = time.perf_counter() - started
    emit("loaded", seconds=load_seconds)
    rows = []
    first_token: list[float] = []
    try:
        for test in request["tests"]:
            samples, first = _time_test(lib, model, test, settings, emit)
            rows.append({"test": test, "samples": samples})
            first_token = first_token or first
    finally:
        lib.llama_model_free(model)
    return {
        "rows": rows,
        "load_seconds": load_seconds,
        "first_token_seconds": first_token,
        "peak_host_bytes": _peak_host_bytes(),
        "peak_device_bytes": watch.stop(),
        "engine": {"name": "llama-cpp-python", "version": lib.version, "gpu": bool(lib.llama_supports_gpu_offload())},
    }


def library_info(request: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """The library's version and whether it has a GPU backend; nothing is loaded."""
    lib = llama_library.load()
    return {"version": lib.version, "gpu": bool(lib.llama_supports_gpu_offload())}


def _load(lib: Any, path: str, settings: Mapping[str, Any]) -> Any:
    params = lib.llama_model_default_params()
    if settings["gpu_layers"] is not None:
        params.n_gpu_layers = settings["gpu_layers"]
    model = lib.llama_model_load_from_file(path.encode(), params)
    if not model:
        raise BadInput(
            f"llama-cpp-python {lib.version} cannot load {path}",
            do=f"a newer library may know the architecture: {llama_library.UPDATE}",
        )
    return model


def _context(lib: Any, model: Any, test: Mapping[str, int], settings: Mapping[str, Any]) -> Any:
    params = lib.llama_context_default_params()
    params.n_ctx = test["prompt"] + test["generate"] + test["depth"]
    params.n_batch = settings["batch"]
    params.n_ubatch = settings["ubatch"]
    params.n_threads = params.n_threads_batch = settings["threads"]
    params.type_k = params.type_v = settings["kv_type_number"]
    params.flash_attn_type = {"auto": -1, "off": 0, "on": 1}[settings["flash_attn"]]
    params.swa_full = False
    context = lib.llama_init_from_model(model, params)
    if not context:
        raise BadInput(
            f"no context of {params.n_ctx} tokens could be made with KV type {settings['kv_type']}",
            do="--prompt, --depth or --kv smaller; a quantized KV needs --flash-attn on",
        )
    return context


def _time_test(
    lib: Any, model: Any, test: Mapping[str, int], settings: Mapping[str, Any], emit: Emit
) -> tuple[list[float], list[float]]:
    """Tokens per second of each repetition; for prompt tests also the seconds to the first token."""
    context = _context(lib, model, test, settings)
    memory = lib.llama_get_memory(context)
    decoder = _Decoder(lib, model, context, settings["batch"])
    tokens = test["prompt"] or test["generate"]
    samples: list[float] = []
    first_token: list[float] = []
    try:
        if test["prompt"]:
            decoder.prompt(test["prompt"])
        else:
            decoder.generate(1)
        for _ in range(settings["repetitions"]):
            lib.llama_memory_clear(memory, False)
            if test["depth"]:
                decoder.prompt(test["depth"])
            start = time.perf_counter()
            if test["prompt"]:
                decoder.prompt(test["prompt"])
            else:
                decoder.generate(test["generate"])
            seconds = time.perf_counter() - start
            samples.append(tokens / seconds)
            if test["prompt"]:
                decoder.pick()
                first_token.append(time.perf_counter() - start)
            emit("sample", prompt=test["prompt"], generate=test["generate"], depth=test["depth"], tps=samples[-1])
    finally:
        lib.llama_free(context)
    return samples, first_token


class _Decoder:
    """Decode calls over random tokens, as llama-bench makes them."""

    def __init__(self, lib: Any, model: Any, context: Any, batch: int) -> None:
        self.lib, self.context, self.batch = lib, context, batch
        self.vocab = lib.llama_model_get_vocab(model)
        self.n_vocab = lib.llama_vocab_n_tokens(self.vocab)
        self.bos = lib.llama_vocab_bos(self.vocab) if lib.llama_vocab_get_add_bos(self.vocab) else None
        self.random = random.Random(0)
        self.one = (lib.llama_token * 1)()

    def prompt(self, n: int) -> None:
        """Decode `n` tokens in batches and wait for them."""
        done = 0
        while done < n:
            size = min(n - done, self.batch)
            tokens = (self.lib.llama_token * size)(*(self.random.randrange(self.n_vocab) for _ in range(size)))
            if done == 0 and self.bos is not None:
                tokens[0] = self.bos
            self._decode(tokens, size)
            done += size
        self.lib.llama_synchronize(self.context)

    def generate(self, n: int) -> None:
        """Decode `n` tokens one after another, waiting for each."""
        self.one[0] = self.random.randrange(self.n_vocab) if self.bos is None else self.bos
        for _ in range(n):
            self._decode(self.one, 1)
            self.lib.llama_synchronize(self.context)
            self.one[0] = self.random.randrange(self.n_vocab)

    def pick(self) -> int:
        """The likeliest next token, which is what a user waits for."""
        logits = self.lib.llama_get_logits_ith(self.context, -1)
        values = logits[: self.n_vocab]
        return max(range(self.n_vocab), key=values.__getitem__)

    def _decode(self, tokens: Any, size: int) -> None:
        code = self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(tokens, size))
        if code != 0:
            raise BadInput(f"llama_decode refused {size} tokens (code {code})", do="a smaller --prompt or --depth")


def _peak_host_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


class _DeviceWatch:
    """The largest growth of used NVIDIA memory during the run, sampled at 10 Hz; None where NVML is absent."""

    def __init__(self) -> None:
        from qwenops.machine.usage import nvidia_usage

        self.used = nvidia_usage()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)
        if self.used is not None:
            self.before = self.peak = self.used()
            self.thread.start()

    def stop(self) -> int | None:
        """Stop sampling and return the growth in bytes."""
        self.over.set()
        if self.used is None:
            return None
        self.thread.join(timeout=1)
        return max(0, self.peak - self.before)

    def _follow(self) -> None:
        while self.used is not None and not self.over.wait(_SAMPLE_EVERY_S):
            self.peak = max(self.peak, self.used())
