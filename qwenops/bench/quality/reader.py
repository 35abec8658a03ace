"""Reading a text with a model through llama-cpp-python's low-level API; in a child process only.

The logits are looked at where the library has them: a view of its own memory, never a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qwenops import llama_library
from qwenops.bench.quality.windows import Decode, abreast, decodes
from qwenops.errors import BadInput


@dataclass(frozen=True)
class Stretch:
    """Outputs from `position` of a window: what the model expects next, and what came. The logits are a view that
    holds until the next one is asked for. `tokens` were decoded for it, and `ends` tells the window's last."""

    chunk: int
    position: int
    logits: NDArray[np.float32]
    targets: NDArray[np.int32]


class Reader:
    """A loaded model with a context for windows of one length. Raises BadInput for what cannot be read with."""

    def __init__(self, lib: Any, request: Mapping[str, Any]) -> None:
        self.lib, self.ctx = lib, request["ctx"]
        # Whole windows side by side, or a part of one.
        self.batch_tokens = max(1, request["batch"] // self.ctx) * self.ctx if request["batch"] >= self.ctx else 0
        self.batch_tokens = self.batch_tokens or request["batch"]
        self.model = _load(lib, request)
        self.vocabulary_pointer = lib.llama_model_get_vocab(self.model)
        self.vocabulary = int(lib.llama_vocab_n_tokens(self.vocabulary_pointer))
        self._check(request["file"])
        self.bos = (
            lib.llama_vocab_bos(self.vocabulary_pointer)
            if lib.llama_vocab_get_add_bos(self.vocabulary_pointer)
            else None
        )
        self.context: Any = None
        self.request = request

    def cut(self, text: str) -> NDArray[np.int32]:
        """The text's tokens, as llama-perplexity has them: special tokens added, none read out of the text."""
        raw = text.encode()
        tokens = (self.lib.llama_token * (len(raw) + 8))()
        count = self.lib.llama_tokenize(self.vocabulary_pointer, raw, len(raw), tokens, len(tokens), True, False)
        if count < 0:
            raise BadInput("the text cannot be cut into tokens", do="give another text")
        return np.ctypeslib.as_array(tokens)[:count].astype(np.int32)

    def read(self, tokens: NDArray[np.int32], chunks: Sequence[int]) -> Iterator[tuple[Decode, list[Stretch]]]:
        """Decode some windows; after each call its outputs."""
        if self.context is None:
            self.context = self._context()
            self._warm_up()
        memory = self.lib.llama_get_memory(self.context)
        batch = self.lib.llama_batch_init(self.batch_tokens, 0, 1)
        fields = _Fields(batch, self.batch_tokens)
        try:
            for call in decodes(chunks, self.ctx, self.batch_tokens):
                if call.begins:
                    self.lib.llama_memory_clear(memory, True)
                self._decode(call, tokens, batch, fields)
                yield call, list(self._stretches(call, tokens))
        finally:
            self.lib.llama_batch_free(batch)

    def close(self) -> None:
        """Give everything back."""
        if self.context is not None:
            self.lib.llama_free(self.context)
        self.lib.llama_model_free(self.model)

    def _decode(self, call: Decode, tokens: NDArray[np.int32], batch: Any, fields: _Fields) -> None:
        positions = np.arange(call.start, call.start + call.length, dtype=np.int32)
        wanted = np.zeros(call.length, np.int8)
        if call.rows:
            low = call.rows[0].position - call.start
            wanted[low : low + call.rows[0].count] = 1
        for sequence, chunk in enumerate(call.chunks):
            here = slice(sequence * call.length, (sequence + 1) * call.length)
            begin = chunk * self.ctx + call.start
            fields.tokens[here] = tokens[begin : begin + call.length]
            if call.begins and self.bos is not None:
                fields.tokens[here.start] = self.bos
            fields.positions[here], fields.wanted[here] = positions, wanted
            for i in range(here.start, here.stop):
                batch.seq_id[i][0] = sequence
        batch.n_tokens = call.tokens
        code = self.lib.llama_decode(self.context, batch)
        if code != 0:
            raise BadInput(
                f"the model could not read {call.tokens} tokens at once (llama_decode: {code})",
                do="a smaller --batch or --ctx",
            )

    def _stretches(self, call: Decode, tokens: NDArray[np.int32]) -> Iterator[Stretch]:
        count = sum(rows.count for rows in call.rows)
        if not count:
            return
        pointer = self.lib.llama_get_logits(self.context)
        outputs = np.ctypeslib.as_array(pointer, (count, self.vocabulary))
        done = 0
        for rows in call.rows:
            begin = rows.chunk * self.ctx + rows.position + 1
            targets = tokens[begin : begin + rows.count]
            yield Stretch(rows.chunk, rows.position, outputs[done : done + rows.count], targets)
            done += rows.count

    def _context(self) -> Any:
        request, lib = self.request, self.lib
        params = lib.llama_context_default_params()
        params.n_seq_max = abreast(self.ctx, self.batch_tokens)
        params.n_ctx = params.n_seq_max * self.ctx
        params.n_batch = self.batch_tokens
        params.n_ubatch = request["ubatch"]
        params.n_threads = params.n_threads_batch = request["threads"]
        params.type_k = params.type_v = request["kv_type_number"]
        params.flash_attn_type = {"auto": -1, "off": 0, "on": 1}[request["flash_attn"]]
        params.swa_full = False
        context = lib.llama_init_from_model(self.model, params)
        if not context:
            raise BadInput(
                f"no context of {params.n_ctx} tokens could be made with KV type {request['kv_type']}",
                do="--batch or --ctx smaller; a quantized KV needs flash attention",
            )
        return context

    def _warm_up(self) -> None:
        one = (self.lib.llama_token * 1)(self.bos if self.bos is not None else 0)
        self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(one, 1))
        self.lib.llama_synchronize(self.context)

    def _check(self, file: str) -> None:
        lib = self.lib
        if lib.llama_vocab_get_add_eos(self.vocabulary_pointer) or lib.llama_model_has_encoder(self.model):
            lib.llama_model_free(self.model)
            raise BadInput(f"{file} does not write text on from its beginning: it has no perplexity")


class _Fields:
    """A batch's arrays as numpy sees them."""

    def __init__(self, batch: Any, tokens: int) -> None:
        self.tokens = np.ctypeslib.as_array(batch.token, (tokens,))
        self.positions = np.ctypeslib.as_array(batch.pos, (tokens,))
        self.wanted = np.ctypeslib.as_array(batch.logits, (tokens,))
        np.ctypeslib.as_array(batch.n_seq_id, (tokens,))[:] = 1


def _load(lib: Any, request: Mapping[str, Any]) -> Any:
    params = lib.llama_model_default_params()
    if request["gpu_layers"] is not None:
        params.n_gpu_layers = request["gpu_layers"]
    model = lib.llama_model_load_from_file(request["file"].encode(), params)
    if not model:
        raise BadInput(
            f"llama-cpp-python {lib.version} cannot load {request['file']}",
            do=f"a newer library may know the architecture: {llama_library.UPDATE}",
        )
    return model


def system_of(lib: Any) -> str:
    """What the library was built for, in its own words."""
    return bytes(lib.llama_print_system_info()).decode("utf-8", "replace").strip()
