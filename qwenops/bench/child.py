"""The side that runs in a child: load a model with llama-cpp-python's low-level API and time its decode calls.

The loops follow what llama-bench times (tools/llama-bench/llama-bench.cpp, test_prompt and test_gen, b10435): random
tokens, one warm-up, a cleared cache before each repetition, the depth filled outside the clock. A model that was opened
stays, so that others can be timed in between; each repetition then begins with one token, or a short prompt itself,
that is not timed.
"""

from __future__ import annotations

import ctypes
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from qwenops import llama_library
from qwenops.bench.page_cache import forget, read_through
from qwenops.bench.threadpool import attach_threadpool
from qwenops.errors import BadInput

Emit = Callable[..., None]
_SHORT_PROMPT = 128
"""So short that building its graph would show: it runs once before, as llama-bench's repetitions reuse the graph."""
_open: _Opened | None = None


def library_info(request: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """The library's version and whether it has a GPU backend; nothing is loaded."""
    lib = llama_library.load()
    return {"version": lib.version, "gpu": bool(lib.llama_supports_gpu_offload())}


def open_model(request: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Load the model of the request with one context for all its tests, and warm up each of them."""
    global _open
    lib = llama_library.load()
    idle_bytes = _resident_bytes()
    started = time.perf_counter()
    model = _load(lib, request["file"], request["settings"])
    seconds = time.perf_counter() - started
    opened = _Opened(lib, model, request)
    _open = opened
    return {
        "load_seconds": seconds,
        "idle_host_bytes": idle_bytes,
        "version": lib.version,
        "gpu": bool(lib.llama_supports_gpu_offload()),
        "devices": _device_names(lib, request["settings"]),
    }


def time_test(request: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """One repetition of one test on the opened model."""
    assert _open is not None
    return _open.time(request["test"])


def time_load(request: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """The seconds that reading the weights takes; "cold": the page cache lets go of the files first.

    Raises CheckFailed where it does not, because another process has them mapped.
    """
    lib = llama_library.load()
    files = request["files"]
    if request["cold"]:
        forget(files)
    else:
        read_through(files)
    began = time.monotonic()
    model = _load(lib, files[0], request["settings"])
    ended = time.monotonic()
    lib.llama_model_free(model)
    return {"seconds": ended - began, "began": began, "ended": ended}


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


class _Opened:
    """A loaded model with its context, and its projector where pictures are asked for."""

    def __init__(self, lib: Any, model: Any, request: Mapping[str, Any]) -> None:
        self.lib, self.model, self.settings = lib, model, request["settings"]
        pictures = [tuple(test["image"]) for test in request["tests"] if test["image"]]
        self.eyes = _Eyes(lib, model, request["projector"], self.settings) if pictures else None
        seen = {size: self.eyes.look(size) for size in pictures} if self.eyes else {}
        longest = max((t["prompt"] + t["generate"] + t["depth"] for t in request["tests"] if not t["image"]), default=0)
        self.context = _context(lib, model, max(longest, *(n for n in seen.values()), 1), self.settings)
        attach_threadpool(lib, self.context, self.settings["threads"])
        self.memory = lib.llama_get_memory(self.context)
        self.decoder = _Decoder(lib, model, self.context, self.settings["batch"])
        for test in request["tests"]:
            self._clear()
            if test["prompt"]:
                self.decoder.prompt(test["prompt"])
            elif test["image"] and self.eyes:
                self.eyes.encode(tuple(test["image"]))
            else:
                self.decoder.generate(1)

    def time(self, test: Mapping[str, Any]) -> dict[str, Any]:
        """One repetition: its values by series, when it was timed, and the page faults that had to read the disk."""
        name, faults = test["name"], _major_faults()
        self._clear()
        if 0 < test["prompt"] <= _SHORT_PROMPT:
            self.decoder.prompt(test["prompt"])
        else:
            self.decoder.generate(1)
        self._clear()
        if test["image"]:
            assert self.eyes is not None
            found = self.eyes.time(name, tuple(test["image"]), self.context, self.settings["batch"])
        else:
            found = self._time_tokens(name, test)
        return {**found, "major_faults": _major_faults() - faults}

    def _time_tokens(self, name: str, test: Mapping[str, Any]) -> dict[str, Any]:
        if test["depth"]:
            self.decoder.prompt(test["depth"])
        tokens = test["prompt"] or test["generate"]
        self.decoder.draw(tokens)
        began = time.monotonic()
        start = time.perf_counter()
        if test["prompt"]:
            self.decoder.prompt(tokens)
        else:
            self.decoder.generate(tokens)
        seconds = time.perf_counter() - start
        values = {name: tokens / seconds}
        if test["prompt"]:
            self.decoder.pick()
            values[f"first-token {name}"] = time.perf_counter() - start
        return {"values": values, "began": began, "ended": began + seconds, "tokens": tokens}

    def _clear(self) -> None:
        self.lib.llama_memory_clear(self.memory, False)


def _context(lib: Any, model: Any, n_ctx: int, settings: Mapping[str, Any]) -> Any:
    params = lib.llama_context_default_params()
    params.n_ctx = n_ctx
    params.n_batch = settings["batch"]
    params.n_ubatch = settings["ubatch"]
    params.n_threads = params.n_threads_batch = settings["threads"]
    params.type_k = params.type_v = settings["kv_type_number"]
    params.flash_attn_type = _FLASH[settings["flash_attn"]]
    params.swa_full = False
    context = lib.llama_init_from_model(model, params)
    if not context:
        raise BadInput(
            f"no context of {n_ctx} tokens could be made with KV type {settings['kv_type']}",
            do="--prompt, --depth or --kv smaller; a quantized KV needs --flash-attn on",
        )
    return context


_FLASH = {"auto": -1, "off": 0, "on": 1}


class _Decoder:
    """Decode calls over random tokens, as llama-bench makes them."""

    def __init__(self, lib: Any, model: Any, context: Any, batch: int) -> None:
        self.lib, self.context, self.batch = lib, context, batch
        self.vocab = lib.llama_model_get_vocab(model)
        self.n_vocab = lib.llama_vocab_n_tokens(self.vocab)
        self.bos = lib.llama_vocab_bos(self.vocab) if lib.llama_vocab_get_add_bos(self.vocab) else None
        self.random = random.Random(0)
        self.one = (lib.llama_token * 1)()
        self.drawn: list[int] = []

    def draw(self, n: int) -> None:
        """Draw the next `n` tokens beforehand: in Python that takes a share of a small model's time."""
        self.drawn = [self.random.randrange(self.n_vocab) for _ in range(n)]
        if self.drawn and self.bos is not None:
            self.drawn[0] = self.bos

    def prompt(self, n: int) -> None:
        """Decode `n` tokens in batches and wait for them."""
        tokens, done = self._tokens(n), 0
        while done < n:
            size = min(n - done, self.batch)
            self._decode((self.lib.llama_token * size)(*tokens[done : done + size]), size)
            done += size
        self.lib.llama_synchronize(self.context)

    def generate(self, n: int) -> None:
        """Decode `n` tokens one after another, waiting for each."""
        for token in self._tokens(n):
            self.one[0] = token
            self._decode(self.one, 1)
            self.lib.llama_synchronize(self.context)

    def pick(self) -> int:
        """The likeliest next token, which is what a user waits for."""
        logits = self.lib.llama_get_logits_ith(self.context, -1)
        return int(np.ctypeslib.as_array(logits, (self.n_vocab,)).argmax())

    def _tokens(self, n: int) -> list[int]:
        """The tokens that were drawn, once."""
        if len(self.drawn) != n:
            self.draw(n)
        tokens, self.drawn = self.drawn, []
        return tokens

    def _decode(self, tokens: Any, size: int) -> None:
        code = self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(tokens, size))
        if code != 0:
            raise BadInput(f"llama_decode refused {size} tokens (code {code})", do="a smaller --prompt or --depth")


class _Eyes:
    """The projector: made pictures are encoded, and their tokens decoded (tools/mtmd/mtmd.h, b10435)."""

    def __init__(self, lib: Any, model: Any, projector: str, settings: Mapping[str, Any]) -> None:
        from llama_cpp import mtmd_cpp

        self.mtmd: Any = mtmd_cpp
        _silence(self.mtmd)
        params = self.mtmd.mtmd_context_params_default()
        params.use_gpu = settings["gpu_layers"] != 0
        params.print_timings = False
        params.warmup = False
        params.n_threads = settings["threads"]
        params.flash_attn_type = _FLASH[settings["flash_attn"]]
        self.lib = lib
        self.context = self.mtmd.mtmd_init_from_file(projector.encode(), model, params)
        if not self.context:
            raise BadInput(f"llama-cpp-python {lib.version} cannot load {projector}", do=llama_library.UPDATE)

    def look(self, size: tuple[int, int]) -> int:
        """How many tokens, or positions where those are more, a picture of that size takes."""
        with self._chunk(size) as chunk:
            image = self.mtmd.mtmd_input_chunk_get_tokens_image(chunk)
            return max(
                int(self.mtmd.mtmd_image_tokens_get_n_tokens(image)),
                int(self.mtmd.mtmd_image_tokens_get_n_pos(image)),
            )

    def encode(self, size: tuple[int, int]) -> None:
        """Encode a picture, for warming up."""
        with self._chunk(size) as chunk:
            self._encode(chunk)

    def time(self, name: str, size: tuple[int, int], context: Any, batch: int) -> dict[str, Any]:
        """Seconds to encode one picture, and the tokens of it that are decoded per second."""
        with self._chunk(size) as chunk:
            image = self.mtmd.mtmd_input_chunk_get_tokens_image(chunk)
            tokens = int(self.mtmd.mtmd_image_tokens_get_n_tokens(image))
            began = time.monotonic()
            start = time.perf_counter()
            self._encode(chunk)
            encoded = time.perf_counter() - start
            past = self.lib.llama_pos(0)
            code = self.mtmd.mtmd_helper_decode_image_chunk(
                self.context,
                context,
                chunk,
                self.mtmd.mtmd_get_output_embd(self.context),
                0,
                0,
                batch,
                ctypes.byref(past),
                self.mtmd.mtmd_helper_post_decode_callback(0),
                None,
            )
            self.lib.llama_synchronize(context)
            seconds = time.perf_counter() - start
            if code != 0:
                raise BadInput(f"the {tokens} tokens of a picture of {size[0]} x {size[1]} were refused (code {code})")
        rate = tokens / (seconds - encoded)
        values = {name: encoded, f"img pp {tokens}": rate}
        return {"values": values, "began": began, "ended": began + seconds, "tokens": tokens}

    def _encode(self, chunk: Any) -> None:
        if self.mtmd.mtmd_encode_chunk(self.context, chunk) != 0:
            raise BadInput("the projector refused the picture", do="a smaller --image")

    @contextmanager
    def _chunk(self, size: tuple[int, int]) -> Iterator[Any]:
        """The one chunk that holds the tokens of a made picture."""
        width, height = size
        pixels = (ctypes.c_uint8 * (width * height * 3)).from_buffer_copy(
            random.Random(0).randbytes(width * 3) * height
        )
        bitmap = self.mtmd.mtmd_bitmap_init(width, height, pixels)
        chunks = self.mtmd.mtmd_input_chunks_init()
        try:
            marker = self.mtmd.mtmd_default_marker()
            text = self.mtmd.mtmd_input_text(text=marker, text_len=len(marker), add_special=False, parse_special=True)
            bitmaps = (self.mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
            code = self.mtmd.mtmd_tokenize(self.context, chunks, ctypes.byref(text), bitmaps, 1)
            found = [
                chunk
                for i in range(self.mtmd.mtmd_input_chunks_size(chunks))
                if self.mtmd.mtmd_input_chunk_get_type(chunk := self.mtmd.mtmd_input_chunks_get(chunks, i))
                == self.mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE
            ]
            if code != 0 or len(found) != 1:
                why = f"code {code}" if code else f"it becomes {len(found)} tiles, and one is timed"
                raise BadInput(f"a picture of {width} x {height} cannot be timed ({why})", do="another --image")
            yield found[0]
        finally:
            self.mtmd.mtmd_input_chunks_free(chunks)
            self.mtmd.mtmd_bitmap_free(bitmap)


def _silence(mtmd: Any) -> None:
    """Keep the projector's own log to its errors, as the library's."""
    from llama_cpp import llama_cpp as lib

    @lib.llama_log_callback  # type: ignore[untyped-decorator]
    def log(level: int, text: bytes, _user: Any) -> None:
        llama_library.errors_to_stderr(level, text.decode("utf-8", "replace"))

    mtmd.kept_log_callback = log
    for name in ("mtmd_log_set", "mtmd_helper_log_set"):
        if hasattr(mtmd, name):
            getattr(mtmd, name)(log, ctypes.c_void_p(0))


def _device_names(lib: Any, settings: Mapping[str, Any]) -> list[str]:
    """The accelerators of the library's own list, where layers go to them."""
    if settings["gpu_layers"] == 0 or not lib.llama_supports_gpu_offload():
        return []
    library = lib._lib
    count, get, name = (library[f"ggml_backend_dev_{word}"] for word in ("count", "get", "name"))
    kind = library["ggml_backend_dev_type"]
    count.restype, get.restype, name.restype, kind.restype = (
        ctypes.c_size_t,
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_int,
    )
    get.argtypes, name.argtypes, kind.argtypes = [ctypes.c_size_t], [ctypes.c_void_p], [ctypes.c_void_p]
    handles = [get(i) for i in range(count())]
    return [name(one).decode("utf-8", "replace") for one in handles if kind(one) in _ACCELERATORS]


_ACCELERATORS = (1, 2)
"""GGML_BACKEND_DEVICE_TYPE_GPU and _IGPU (ggml/include/ggml-backend.h)."""


def _resident_bytes() -> int:
    """What this process holds: the interpreter and the libraries, before any model."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def _major_faults() -> int:
    try:
        import resource
    except ImportError:
        return 0
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_majflt)
