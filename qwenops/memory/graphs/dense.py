"""Dense decoders with an order or a scale of their own: Phi 3 and 4, Granite and MiniCPM, Ministral 3.

As in src/models/phi3.cpp, granite.cpp and mistral3.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.tensor import F32, Tensor


class Phi3(Decoder):
    """Queries scaled by hand, gate and up in one matrix."""

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        residual = current
        current = self._mix(self._norm(current, f"blk.{self.layer}.attn_norm.weight"))
        if last:
            current, residual = self._wanted(current, residual)
        joined = tf.add(current, residual)
        return tf.add(joined, self._feed_forward(self._norm(joined, self._second_norm())))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, output: str | None, sinks: Tensor | None = None) -> Tensor:
        return super()._attend(tf.same_shape("SCALE", q), k, v, output, sinks)

    def _gated(self, x: Tensor, up: str, gate: str, down: str) -> Tensor:
        return self._linear(down, tf.glu_halves(self._linear(up, x)))


class Granite(Decoder):
    """Scales on embeddings, residuals and logits; with experts or without."""

    def _embedding(self) -> Tensor:
        rows = super()._embedding()
        if "embedding scale" not in self.shape.extras:
            return rows
        whole = rows if rows.contiguous else tf.cont(rows)
        return self.graph.expand(tf.same_shape("SCALE", whole))

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        residual = current
        current = self._mix(self._norm(current, f"blk.{self.layer}.attn_norm.weight"))
        if last:
            current, residual = self._wanted(current, residual)
        joined = tf.add(self._damped(current), residual)
        current = self._feed_forward(self._norm(joined, self._second_norm()))
        return tf.add(self._damped(current), joined)

    def _damped(self, x: Tensor) -> Tensor:
        return tf.same_shape("SCALE", x) if "residual scale" in self.shape.extras else x

    def _rope(self, x: Tensor, factors: Tensor | None) -> Tensor:
        return x if "no rope" in self.shape.extras else super()._rope(x, factors)

    def _finished(self, logits: Tensor) -> Tensor:
        return tf.same_shape("SCALE", logits)


class Mistral3(Decoder):
    """Queries that cool with the distance."""

    def _inputs(self) -> None:
        super()._inputs()
        self.temperature = tf.graph_input(F32, 1, 1, self.batch.tokens)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, output: str | None, sinks: Tensor | None = None) -> Tensor:
        if "temperature" in self.shape.extras:
            q = tf.mul(q, self.temperature)
        return super()._attend(q, k, v, output, sinks)
