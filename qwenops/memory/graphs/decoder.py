"""The tensors of one prompt batch, layer by layer, as llama.cpp builds them.

Sources: src/llama-graph.cpp and src/models of b10434. This builder serves the dense and the mixture-of-experts decoders
of the Llama and Qwen families; what other families do differently is in modules of their own beside it. Names in
brackets are llama.cpp's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.pieces import Pieces
from qwenops.memory.graphs.pooling import pooled
from qwenops.memory.quants import TYPE_BYTES, is_quantized
from qwenops.memory.tensor import F16, F32, I32, I64, Graph, Tensor

MULTI_ROPE: Final = frozenset({"qwen2vl", "qwen25vl", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe"})
# which tensors stretch the rotary positions, by architecture; long and short ones of Phi are of one size
FACTORS: Final = {
    **dict.fromkeys(("llama", "granite", "granitemoe", "mistral3", "cohere2", "gemma4"), ("rope_freqs",)),
    **dict.fromkeys(("exaone", "exaone-moe", "exaone4", "llama4"), ("rope_freqs",)),
    **dict.fromkeys(("phi3", "phimoe"), ("rope_factors_long", "rope_factors_short")),
    **dict.fromkeys(("minicpm", "deci"), ("rope_freqs", "rope_factors_long", "rope_factors_short")),
}


@dataclass(frozen=True)
class CacheInputs:
    """What the runtime fills in for one cache: where new rows go, what may be seen, how quantized rows are rotated."""

    cells: int
    k_numbers: Tensor
    v_numbers: Tensor
    mask: Tensor
    k_rotation: Tensor | None
    v_rotation: Tensor | None


class Decoder(Pieces):
    """Builds the graph of one batch. Families override what they do differently.

    `period` is after how many blocks their kinds begin again, where neither a state nor a window tells them apart.
    """

    period = 1

    def build(self) -> Graph:
        """The whole graph, embedding to logits."""
        self._inputs()
        current = self._embedding()
        last = self.layout.blocks[-1]
        for layer in self.layout.blocks:
            self.layer = layer
            current = self._pass(current, last=layer == last)
            current = self._with_image_rows(current)
            self.graph.ends.append(current)
        self._head(current)
        return self.graph

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        """One block."""
        residual = current
        current = self._mix(self._norm(current, f"blk.{self.layer}.attn_norm.weight"))
        if last:
            current, residual = self._wanted(current, residual)
        joined = tf.add(current, residual)
        return tf.add(self._feed_forward(self._norm(joined, self._second_norm())), joined)

    def _with_image_rows(self, current: Tensor) -> Tensor:
        """Some blocks add what the encoder gave for them (deepstack)."""
        s, rows = self.shape, self._image_rows
        which = s.image_after(self.layer)
        if which < 0:
            return current
        return tf.add(current, tf.view_2d(rows, s.embedding, self.batch.tokens, rows.nb[1], which * s.embedding * 4))

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _embedding(self) -> Tensor:
        s, b = self.shape, self.batch
        tokens = tf.graph_input(I32, b.tokens)
        rows = tf.get_rows(self._weight("token_embd.weight"), tokens)
        if s.image_inputs > 1:
            rows = tf.pad_to(rows, s.embedding * s.image_inputs, b.tokens)
        self.graph.expand(rows)
        # the path for image embeddings is part of the graph though it does not run
        self.graph.expand(tf.graph_input(F32, s.embedding * s.image_inputs, b.tokens))
        current = rows
        if s.image_inputs > 1:
            current = tf.view_2d(rows, s.embedding, b.tokens, rows.nb[1])
        self._image_rows = current
        return self.graph.expand(current)

    def _inputs(self) -> None:
        s, b = self.shape, self.batch
        self.positions = tf.graph_input(I32, b.tokens * (4 if s.architecture in MULTI_ROPE else 1))
        self.whole = self._cache_inputs(b.cells, s.head_k, s.head_v)
        self.window = self.whole
        if s.window:
            self.window = self._cache_inputs(b.window_cells, s.window_head_k or s.head_k, s.window_head_v or s.head_v)
        self.wanted_rows = tf.graph_input(I32, b.outputs)

    def _cache_inputs(self, cells: int, head_k: int, head_v: int) -> CacheInputs:
        s, b = self.shape, self.batch
        per_token = max((s.v_width(i) for i in range(s.layers)), default=1) if b.v_transposed else 1
        return CacheInputs(
            cells,
            tf.graph_input(I64, b.tokens),
            tf.graph_input(I64, b.tokens * per_token),
            tf.graph_input(F16 if b.flash else F32, cells, b.tokens // b.streams, 1, b.streams),
            self._rotation(b.type_k, head_k, largest=True),
            self._rotation(b.type_v, head_v, largest=False),
        )

    @staticmethod
    def _rotation(type_: int, head: int, *, largest: bool) -> Tensor | None:
        """Quantized caches are rotated by a Hadamard matrix first (LLAMA_ATTN_ROT_DISABLE unset)."""
        if not is_quantized(type_) or not head or head % 64:
            return None
        n = 64
        while largest and head % (n * 2) == 0:
            n *= 2
        return tf.graph_input(F32, n, n)

    def _wanted(self, current: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        return tf.get_rows(current, self.wanted_rows), tf.get_rows(residual, self.wanted_rows)

    def _head(self, current: Tensor) -> None:
        current = self._norm(current, self.output_norm, pinned=False)
        self._logits(current)

    def _logits(self, hidden: Tensor) -> None:
        hidden.is_output = True
        logits = tf.mul_mat(self._weight("output.weight"), hidden)
        bias = self.layout.weight("output.bias")
        if bias is not None:
            logits = tf.add(logits, bias)
        logits = self._finished(logits)
        logits.is_output = True
        self.graph.expand(logits)
        self._pool(hidden)

    def _pool(self, hidden: Tensor) -> None:
        """An embedding server's vectors, behind whatever else is computed."""
        s, b = self.shape, self.batch
        if b.pooling is None:
            return
        vectors = pooled(
            hidden,
            b.pooling,
            tokens=b.tokens,
            sequences=b.sequences,
            architecture=s.architecture,
            weight=self.layout.weight,
        )
        if vectors is not None:
            vectors.is_output = True
            self.graph.expand(vectors)

    def _finished(self, logits: Tensor) -> Tensor:
        return logits

    # --- pieces -------------------------------------------------------------------------------------------------------

    def _mix(self, x: Tensor) -> Tensor:
        """Attention of one block (build_qkv, rope, build_attn)."""
        s, n = self.shape, self.batch.tokens
        kv_heads = s.kv_heads[self.layer]
        if self._maybe("attn_qkv.weight") is not None:
            q, k, v = self._joined_qkv(x, kv_heads)
        else:
            q, k, v = (self._linear(name, x) for name in ("attn_q", "attn_k", "attn_v"))
            q = tf.reshape(q, s.head_k, q.ne[0] // s.head_k, n)
            k = tf.reshape(k, s.head_k, kv_heads, n)
            v = tf.reshape(v, s.head_v, kv_heads, n)
        q, k = self._placed(q, k)
        return self._attend(q, k, v, "attn_output")

    def _placed(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys that know their positions, normed before where the family does that."""
        if self._maybe("attn_q_norm.weight") is None:
            factors = self._factors()
            return self._rope(q, factors), self._rope(k, factors)
        q = self._norm(q, f"blk.{self.layer}.attn_q_norm.weight")
        k = self._norm(k, f"blk.{self.layer}.attn_k_norm.weight")
        return self._rope(q, None), self._rope(k, None)

    def _rope(self, x: Tensor, factors: Tensor | None) -> Tensor:
        return tf.rope(x, self.positions, factors)

    def _factors(self) -> Tensor | None:
        """Frequency factors: one tensor of the file, of which every backend with blocks has a copy."""
        if self._here not in self._factors_by_backend:
            found = (self.layout.weight(f"{name}.weight") for name in FACTORS.get(self.shape.architecture, ()))
            factors = next((t for t in found if t is not None), None)
            self._factors_by_backend[self._here] = factors and tf.weight(factors.type, factors.ne, self._here)
        return self._factors_by_backend[self._here]

    def _joined_qkv(self, x: Tensor, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
        s, n = self.shape, self.batch.tokens
        qkv = self._linear("attn_qkv", x)
        row, step = s.head_k * 4, qkv.nb[1]
        q = tf.view_3d(qkv, (s.head_k, s.heads, n), row, step)
        k = tf.view_3d(qkv, (s.head_k, kv_heads, n), row, step, s.heads * row)
        v = tf.view_3d(qkv, (s.head_v, kv_heads, n), row, step, (s.heads + kv_heads) * row)
        return q, k, v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, output: str | None, sinks: Tensor | None = None) -> Tensor:
        """Store keys and values, attend over the cache, project (build_attn)."""
        s, b, g = self.shape, self.batch, self.graph
        cache = self.window if s.sliding[self.layer] else self.whole
        if cache.k_rotation is not None:
            q, k = rotate(q, cache.k_rotation), rotate(k, cache.k_rotation)
        if cache.v_rotation is not None:
            v = rotate(v, cache.v_rotation)
        for t in (q, k, v) if s.window else (q, v, k):
            g.expand(t)
        k_cache = tf.cache(b.type_k, self._here, s.k_width(self.layer), cache.cells, b.streams)
        v_cache = tf.cache(b.type_v, self._here, self._v_width(), cache.cells, b.streams)
        g.expand(self._store(k_cache, k, cache.k_numbers))
        g.expand(self._store_v(v_cache, v, cache.v_numbers))
        cached = self._cached(k_cache, s.key_head(self.layer))
        current = self._heads_attend(q, cached, self._cached_v(v_cache), cache.mask, sinks)
        if cache.v_rotation is not None:
            current = rotate(current, cache.v_rotation)
        return current if output is None else self._linear(output, current)

    def _v_width(self) -> int:
        """Numbers of a row of this block's value cache; lying on its side it has the widest block's."""
        s = self.shape
        return max(s.v_width(i) for i in range(s.layers)) if self.batch.v_transposed else s.v_width(self.layer)

    def _store(self, cache: Tensor, new: Tensor, numbers: Tensor) -> Tensor:
        rows = tf.view_2d(new, new.ne[0] * new.ne[1], new.ne[2], new.nb[2])
        if cache.ne[2] > 1:
            cache = tf.reshape(cache, cache.ne[0], cache.ne[1] * cache.ne[2])
        return tf.set_rows(cache, rows, numbers)

    def _store_v(self, cache: Tensor, new: Tensor, numbers: Tensor) -> Tensor:
        if not self.batch.v_transposed:
            return self._store(cache, new, numbers)
        width = new.ne[0] * new.ne[1]
        rows = tf.reshape(new, width, new.ne[2]) if new.contiguous else tf.cont(new, width, new.ne[2])
        if width < cache.ne[0]:
            rows = tf.pad_to(rows, cache.ne[0], rows.ne[1])
        flat = tf.reshape(cache, 1, cache.elements)
        return tf.set_rows(flat, tf.reshape(rows, 1, rows.elements), numbers)

    def _cached(self, cache: Tensor, head: int) -> Tensor:
        heads, streams = self.shape.kv_heads[self.layer], self.batch.streams
        return tf.view_4d(
            cache, (head, heads, cache.ne[1], streams), tf.row_bytes(cache.type, head), cache.nb[1], cache.nb[2]
        )

    def _cached_v(self, cache: Tensor) -> Tensor:
        cells, heads, head = cache.ne[1], self.shape.kv_heads[self.layer], self.shape.value_head(self.layer)
        if not self.batch.v_transposed:
            return self._cached(cache, head)
        element = TYPE_BYTES[cache.type]
        return tf.view_4d(
            cache,
            (cells, heads, head, self.batch.streams),
            element * cells * head,
            element * cells,
            element * cells * cache.ne[0],
        )

    def _heads_attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, sinks: Tensor | None) -> Tensor:
        """Attention over what the cache shows (build_attn_mha)."""
        streams, transposed = k.ne[3], v.nb[1] > v.nb[2]
        q = tf.view_4d(q, (q.ne[0], q.ne[1], q.ne[2] // streams, streams), q.nb[1], q.nb[2], q.nb[3] // streams)
        q, k, v = (tf.permute(t, 0, 2, 1, 3) for t in (q, k, v))
        if self.batch.flash:
            k, v = (tf.cast(t, F16) if t.type == F32 else t for t in (k, tf.transpose(v) if transposed else v))
            return self.graph.expand(self._attended(tf.flash_attention(q, k, v, mask, sinks)))
        scores = tf.soft_max(self._scores(k, q), mask, sinks)
        if not transposed:
            v = tf.cont(tf.transpose(v))
        out = tf.permute(self._weighed(v, scores), 0, 2, 1, 3)
        return self.graph.expand(tf.cont(out, out.ne[0] * out.ne[1], out.ne[2] * out.ne[3]))

    def _attended(self, out: Tensor) -> Tensor:
        return tf.reshape(out, out.ne[0] * out.ne[1], out.ne[2] * out.ne[3])

    def _weighed(self, v: Tensor, scores: Tensor) -> Tensor:
        return tf.mul_mat(v, scores)

    def _scores(self, k: Tensor, q: Tensor) -> Tensor:
        return tf.mul_mat(k, q)

    def _second_norm(self) -> str:
        return f"blk.{self.layer}.ffn_norm.weight"

    def _feed_forward(self, x: Tensor) -> Tensor:
        if self._maybe("ffn_gate_inp.weight") is not None:
            out = self._experts(x)
            return out if self._maybe("ffn_up_shexp.weight") is None else tf.add(out, self._shared_expert(x))
        return self._gated(x, "ffn_up", "ffn_gate", "ffn_down")

    def _shared_expert(self, x: Tensor) -> Tensor:
        return self._gated(x, "ffn_up_shexp", "ffn_gate_shexp", "ffn_down_shexp")


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    n = rotation.ne[0]
    rows = x.elements // n
    flat = tf.reshape(x, n, rows) if x.contiguous else tf.cont(x, n, rows)
    return tf.reshape(tf.mul_mat(rotation, flat), *x.ne)
