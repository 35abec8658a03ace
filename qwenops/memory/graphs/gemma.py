"""Gemma 1 to 3: norms before and after each part, a window in most blocks, soft caps on scores and logits.

As in src/models/gemma.cpp, gemma2.cpp and gemma3.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.tensor import Tensor


class Gemma(Decoder):
    """Text models of Gemma 2 and 3."""

    def _embedding(self) -> Tensor:
        return tf.same_shape("SCALE", super()._embedding())

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        residual = current
        current = self._mix(self._norm(current, f"blk.{self.layer}.attn_norm.weight"))
        if last:
            current, residual = self._wanted(current, residual)
        joined = tf.add(self._norm(current, f"blk.{self.layer}.post_attention_norm.weight"), residual)
        current = self._feed_forward(self._norm(joined, f"blk.{self.layer}.ffn_norm.weight"))
        return tf.add(self._norm(current, f"blk.{self.layer}.post_ffw_norm.weight", pinned=False), joined)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, output: str | None, sinks: Tensor | None = None) -> Tensor:
        return super()._attend(tf.same_shape("SCALE", q), k, v, output, sinks)

    def _scores(self, k: Tensor, q: Tensor) -> Tensor:
        scores = super()._scores(k, q)
        return _capped(scores) if self.shape.architecture == "gemma2" else scores

    def _finished(self, logits: Tensor) -> Tensor:
        return _capped(logits) if "logits capped" in self.shape.extras else logits


class Gemma1(Gemma):
    """The first Gemma, with the norms of Llama."""

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        return Decoder._pass(self, current, last=last)


def _capped(x: Tensor) -> Tensor:
    return tf.same_shape("SCALE", tf.unary(tf.same_shape("SCALE", x)))
