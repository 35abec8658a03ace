"""Reading with llama-cpp-python's multimodal API; in a child process only.

The low-level API is used: the chat handlers of the library render their own prompts and know no image limits.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from qwenops import llama_library
from qwenops.bench.reading.engines.template import one_turn
from qwenops.bench.reading.loops import stuck
from qwenops.errors import BadInput, QwenopsError

_LOOK_EVERY = 16
_TOP_K, _TOP_P = 40, 0.9  # Ollama's own (api/types.go, v0.32.14)
Emit = Callable[..., None]


def read(request: Mapping[str, Any], emit: Emit) -> dict[str, Any]:
    """Answer the questions of a request one after another; each answer is an event of its own."""
    lib = llama_library.load()
    seer = _Seer(lib, request)
    try:
        emit("loaded", seconds=seer.load_s)
        for question in request["questions"]:
            try:
                answer = seer.answer(question, partial(_say_words, emit, question["id"]))
            except QwenopsError as error:
                emit("failed", id=question["id"], why=error.message, do=list(error.do))
                continue
            emit("answer-of", id=question["id"], answer=answer)
    finally:
        seer.close()
    return {"load_s": seer.load_s}


def _say_words(emit: Emit, question: str, characters: int) -> None:
    emit("words", id=question, characters=characters)


class _Seer:
    """A model with its projector and one context. Raises BadInput for what cannot be loaded together."""

    def __init__(self, lib: Any, request: Mapping[str, Any]) -> None:
        from llama_cpp import mtmd_cpp

        started = time.perf_counter()
        self.lib, self.mtmd, self.request = lib, mtmd_cpp, request
        mtmd_cpp.mtmd_helper_log_set(lib.kept_log_callback, None)
        self.model = self._load()
        self.vocabulary = lib.llama_model_get_vocab(self.model)
        template = lib.llama_model_chat_template(self.model, None)
        if not template:
            raise BadInput(
                f"{request['file']} has no chat template", do="--engine ollama, with a TEMPLATE in its Modelfile"
            )
        self.template = template.decode("utf-8", "replace")
        self.context = self._context()
        self.eyes = self._eyes()
        self.marker = mtmd_cpp.mtmd_default_marker().decode()
        self.one = lib.llama_batch_init(1, 0, 1)
        self.load_s = time.perf_counter() - started

    def answer(self, question: Mapping[str, Any], on_words: Callable[[int], None]) -> dict[str, Any]:
        """Show the pictures, ask, and write until the end, the limit or a loop."""
        lib = self.lib
        started = time.perf_counter()
        lib.llama_memory_clear(lib.llama_get_memory(self.context), True)
        chunks, tokens, picture_tokens = self._chunks(question)
        try:
            if tokens >= self.request["ctx"]:
                raise BadInput(f"the prompt has {tokens} tokens and the context {self.request['ctx']}")
            past, encode_s = self._show(chunks)
        finally:
            self.mtmd.mtmd_input_chunks_free(chunks)
        text, ended, written, first_at = self._write(
            past, min(self.request["most_tokens"], self.request["ctx"] - tokens), on_words
        )
        return {
            "text": text,
            "ended": ended,
            "prompt_tokens": tokens,
            "tokens": written,
            "prompt_s": first_at - started,
            "generate_s": time.perf_counter() - first_at,
            "picture_tokens": picture_tokens,
            "encode_s": encode_s,
        }

    def close(self) -> None:
        """Give everything back."""
        self.lib.llama_batch_free(self.one)
        self.mtmd.mtmd_free(self.eyes)
        self.lib.llama_free(self.context)
        self.lib.llama_model_free(self.model)

    def _load(self) -> Any:
        params = self.lib.llama_model_default_params()
        if self.request["gpu_layers"] is not None:
            params.n_gpu_layers = self.request["gpu_layers"]
        model = self.lib.llama_model_load_from_file(self.request["file"].encode(), params)
        if not model:
            raise BadInput(
                f"llama-cpp-python {self.lib.version} cannot load {self.request['file']}",
                do=f"a newer library may know the architecture: {llama_library.UPDATE}",
            )
        return model

    def _context(self) -> Any:
        params = self.lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = self.request["ctx"], 2048, 512
        params.n_threads = params.n_threads_batch = self.request["threads"]
        params.flash_attn_type = 1
        context = self.lib.llama_init_from_model(self.model, params)
        if not context:
            raise BadInput(
                f"no context of {self.request['ctx']} tokens could be made with flash attention",
                do="fewer --image-tokens or a smaller --most-tokens",
            )
        return context

    def _eyes(self) -> Any:
        params = self.mtmd.mtmd_context_params_default()
        params.use_gpu = self.request["gpu_layers"] != 0
        params.n_threads, params.flash_attn_type, params.warmup = self.request["threads"], 1, False
        params.image_min_tokens, params.image_max_tokens = self.request["image_min"], self.request["image_max"]
        eyes = self.mtmd.mtmd_init_from_file(self.request["projector"].encode(), self.model, params)
        if not eyes:
            raise BadInput(f"{self.request['projector']} is not the projector of {self.request['file']}")
        return eyes

    def _chunks(self, question: Mapping[str, Any]) -> tuple[Any, int, int]:
        """The prompt in pieces of text and picture, its tokens, and those of its pictures without markers."""
        mtmd, pictures = self.mtmd, question["pictures"]
        bitmaps = [self._bitmap(path) for path in pictures]
        try:
            row = (mtmd.mtmd_bitmap_p_ctypes * len(bitmaps))(*bitmaps)
            raw = self._prompt(question["prompt"], len(pictures)).encode()
            text = mtmd.mtmd_input_text(text=raw, text_len=len(raw), add_special=True, parse_special=True)
            chunks = mtmd.mtmd_input_chunks_init()
            code = mtmd.mtmd_tokenize(self.eyes, chunks, ctypes.byref(text), row, len(bitmaps))
        finally:
            for bitmap in bitmaps:
                mtmd.mtmd_bitmap_free(bitmap)
        if code != 0:
            mtmd.mtmd_input_chunks_free(chunks)
            raise BadInput(f"the picture could not be made ready for the model (mtmd_tokenize: {code})")
        counts = [(self._kind(chunk), mtmd.mtmd_input_chunk_get_n_tokens(chunk)) for chunk in self._each(chunks)]
        image = mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE
        return chunks, sum(n for _, n in counts), sum(n for kind, n in counts if kind == image)

    def _bitmap(self, path: str) -> Any:
        data = Path(path).read_bytes()
        buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
        bitmap = self.mtmd.mtmd_helper_bitmap_init_from_buf(self.eyes, buffer, len(data), False)
        if not bitmap:
            raise BadInput("the library cannot decode the picture")
        return bitmap

    def _prompt(self, words: str, pictures: int) -> str:
        lib, vocabulary = self.lib, self.vocabulary
        # where the vocabulary begins every text by itself, a template that does so as well would do it twice
        bos = "" if lib.llama_vocab_get_add_bos(vocabulary) else self._special(lib.llama_vocab_bos(vocabulary))
        eos = self._special(lib.llama_vocab_eos(vocabulary))
        return one_turn(self.template, words, self.marker, pictures, bos=bos, eos=eos)

    def _special(self, token: int) -> str:
        text = self.lib.llama_vocab_get_text(self.vocabulary, token) if token >= 0 else None
        return text.decode("utf-8", "replace") if text else ""

    def _each(self, chunks: Any) -> Sequence[Any]:
        return [self.mtmd.mtmd_input_chunks_get(chunks, n) for n in range(self.mtmd.mtmd_input_chunks_size(chunks))]

    def _kind(self, chunk: Any) -> int:
        return int(self.mtmd.mtmd_input_chunk_get_type(chunk))

    def _show(self, chunks: Any) -> tuple[int, float]:
        """Decode the prompt; the position after it, and the seconds in which its pictures were encoded."""
        mtmd, encode_s = self.mtmd, 0.0
        past = self.lib.llama_pos(0)
        pieces = self._each(chunks)
        for n, chunk in enumerate(pieces):
            if self._kind(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
                code = mtmd.mtmd_helper_eval_chunk_single(
                    self.eyes, self.context, chunk, past.value, 0, 2048, n == len(pieces) - 1, ctypes.byref(past)
                )
            else:
                started = time.perf_counter()
                code = mtmd.mtmd_encode_chunk(self.eyes, chunk)
                encode_s += time.perf_counter() - started
                if code == 0:
                    seen = mtmd.mtmd_get_output_embd(self.eyes)
                    code = mtmd.mtmd_helper_decode_image_chunk(
                        *(self.eyes, self.context, chunk, seen, past.value, 0, 2048, ctypes.byref(past)),
                        *(mtmd.mtmd_helper_post_decode_callback(), None),
                    )
            if code != 0:
                raise BadInput(
                    f"the model could not read the prompt ({code}): out of memory?", do="fewer --image-tokens"
                )
        return past.value, encode_s

    def _write(self, past: int, most: int, on_words: Callable[[int], None]) -> tuple[str, str, int, float]:
        """The answer, how it ended, its tokens, and when its first one was known."""
        lib, sampler, raw, ended, first_at = self.lib, self._sampler(), bytearray(), "length", 0.0
        written = 0
        try:
            while written < most:
                token = lib.llama_sampler_sample(sampler, self.context, -1)
                first_at = first_at or time.perf_counter()
                if lib.llama_vocab_is_eog(self.vocabulary, token):
                    ended = "stop"
                    break
                raw += self._piece(token)
                written += 1
                if written % _LOOK_EVERY == 0:
                    text = raw.decode("utf-8", "replace")
                    on_words(len(text))
                    if stuck(text):
                        ended = "loop"
                        break
                self._decode(token, past)
                past += 1
        finally:
            lib.llama_sampler_free(sampler)
        return raw.decode("utf-8", "replace"), ended, written, first_at or time.perf_counter()

    def _decode(self, token: int, position: int) -> None:
        one = self.one
        one.n_tokens, one.token[0], one.pos[0], one.n_seq_id[0], one.seq_id[0][0], one.logits[0] = (
            1,
            token,
            position,
            1,
            0,
            1,
        )
        code = self.lib.llama_decode(self.context, one)
        if code != 0:
            raise BadInput(f"the model could not go on with its answer (llama_decode: {code})")

    def _piece(self, token: int) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self.lib.llama_token_to_piece(self.vocabulary, token, buffer, size, 0, False)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def _sampler(self) -> Any:
        """Greedy at temperature 0, else as Ollama samples where a Modelfile says nothing."""
        lib, heat = self.lib, self.request["temperature"]
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        if heat <= 0:
            lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_greedy())
            return chain
        for step in (
            lib.llama_sampler_init_top_k(_TOP_K),
            lib.llama_sampler_init_top_p(_TOP_P, 1),
            lib.llama_sampler_init_temp(heat),
            lib.llama_sampler_init_dist(self.request["seed"]),
        ):
            lib.llama_sampler_chain_add(chain, step)
        return chain
