"""Embedders and rerankers that keep no cache: BERT and its kin, ModernBERT, EmbeddingGemma.

A batch attends to itself, with a mask as wide as it is long. As in src/models/bert.cpp, modern-bert.cpp and
gemma-embedding.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from typing import Final

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.graphs.gemma import Gemma
from qwenops.memory.tensor import F16, F32, I32, Tensor

_TURNED: Final = frozenset({"nomic-bert", "nomic-bert-moe", "jina-bert-v3"})


class Embedder(Decoder):
    """No cache and no head: the last rows are what was asked for."""

    def _inputs(self) -> None:
        b = self.batch
        self.positions = tf.graph_input(I32, b.tokens)
        self.mask = self._mask()
        self.window_mask = self._mask() if self.shape.window else self.mask
        self.wanted_rows = tf.graph_input(I32, b.outputs)

    def _mask(self) -> Tensor:
        b = self.batch
        return tf.graph_input(F16 if b.flash else F32, b.tokens, b.tokens)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, output: str | None, sinks: Tensor | None = None) -> Tensor:
        for t in (q, k, v):
            self.graph.expand(t)
        mask = self.window_mask if self.shape.sliding[self.layer] else self.mask
        current = self._heads_attend(q, k, v, mask, sinks)
        return current if output is None else self._linear(output, current)

    def _head(self, current: Tensor) -> None:
        self._hidden(self._norm(current, self.output_norm, pinned=False))

    def _hidden(self, hidden: Tensor) -> None:
        hidden.is_output = True
        self.graph.expand(hidden)
        self._pool(hidden)


class Bert(Embedder):
    """BERT, RoBERTa, Nomic and Jina: norms behind each part."""

    norm_operation = "NORM"

    def _embedding(self) -> Tensor:
        rows = super()._embedding()
        kinds = self.layout.weight("token_types.weight")
        if kinds is not None:
            rows = tf.add(rows, tf.view(kinds, (kinds.ne[0], 1, 1, 1)))
        places = self.layout.weight("position_embd.weight")
        if places is not None:
            rows = tf.add(tf.get_rows(places, self.positions), rows)
        return self._norm(rows, "token_embd_norm.weight")

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        residual = current
        current = self._mix(current)
        if last:
            current, residual = self._wanted(current, residual)
        current = self._norm(tf.add(current, residual), f"blk.{self.layer}.attn_output_norm.weight")
        if self._maybe("attn_norm_2.weight") is not None:
            current = self._norm(tf.add(current, residual), f"blk.{self.layer}.attn_norm_2.weight")
        fed = tf.add(self._feed_forward(current), current)
        return self._norm(fed, f"blk.{self.layer}.layer_output_norm.weight")

    def _placed(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        q, k = self._normed_whole("attn_q_norm", q), self._normed_whole("attn_k_norm", k)
        if self.shape.architecture not in _TURNED:
            return q, k
        return self._rope(q, None), self._rope(k, None)

    def _normed_whole(self, name: str, x: Tensor) -> Tensor:
        """Queries or keys normed over all heads at once."""
        if self._maybe(f"{name}.weight") is None:
            return x
        flat = tf.reshape(x, x.ne[0] * x.ne[1], x.ne[2])
        return tf.reshape(self._norm(flat, f"blk.{self.layer}.{name}.weight"), *x.ne)

    def _gated(self, x: Tensor, up: str, gate: str, down: str) -> Tensor:
        halves = self._block(f"{up}.weight").ne[1] == 2 * self._block(f"{down}.weight").ne[0]
        if halves:
            return self._linear(down, tf.glu_halves(self._linear(up, x)))
        return super()._gated(x, up, gate, down)

    def _shares_sum_to_one(self) -> bool:
        return False

    def _head(self, current: Tensor) -> None:
        self._hidden(current)


class ModernBert(Embedder):
    """Norms before each part, but for the first attention; gate and up in one matrix."""

    norm_operation = "NORM"

    def _embedding(self) -> Tensor:
        return self._norm(super()._embedding(), "token_embd_norm.weight")

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        residual, norm = current, "attn_norm.weight"
        if self._maybe(norm) is not None:
            current = self._norm(current, f"blk.{self.layer}.{norm}")
        current = self._mix(current)
        if last:
            current, residual = self._wanted(current, residual)
        joined = tf.add(current, residual)
        return tf.add(self._feed_forward(self._norm(joined, self._second_norm())), joined)

    def _gated(self, x: Tensor, up: str, gate: str, down: str) -> Tensor:
        return self._linear(down, tf.glu_halves(self._linear(up, x)))


class GemmaEmbedder(Gemma, Embedder):
    """EmbeddingGemma: the blocks of Gemma 3 without its cache."""


EMBEDDERS: Final[dict[str, type[Decoder]]] = {
    "bert": Bert,
    "gemma-embedding": GemmaEmbedder,
    "jina-bert-v2": Bert,
    "jina-bert-v3": Bert,
    "modern-bert": ModernBert,
    "nomic-bert": Bert,
    "nomic-bert-moe": Bert,
}
