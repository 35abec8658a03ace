"""Decoders whose attention and feed-forward start from the same row: Command R, Phi 2, Falcon, GPT-NeoX, StableLM 2.

As in src/models/command-r.cpp, cohere2.cpp, phi2.cpp, falcon.cpp, gptneox.cpp and stablelm.cpp of llama.cpp b10434.
They differ in what the feed-forward reads and in the order in which the three parts are added up, which decides what is
alive together.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.tensor import Tensor


class Parallel(Decoder):
    """Attention and feed-forward side by side, after one norm (Command R)."""

    norm_operation = "NORM"

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        residual = current
        normed = self._norm(current, f"blk.{self.layer}.attn_norm.weight")
        attended = self._mix(self._attention_input(current, normed))
        if last:
            attended, residual = self._wanted(attended, residual)
            normed = tf.get_rows(normed, self.wanted_rows)
        return self._summed(attended, self._feed_forward(normed), residual)

    def _attention_input(self, current: Tensor, normed: Tensor) -> Tensor:
        return normed

    def _summed(self, attended: Tensor, fed: Tensor, residual: Tensor) -> Tensor:
        return tf.add(tf.add(fed, residual), attended)

    def _finished(self, logits: Tensor) -> Tensor:
        return tf.same_shape("SCALE", logits) if "logit scale" in self.shape.extras else logits


class Cohere2(Parallel):
    """Command R7B and Command A: positions only in blocks with a window."""

    def _rope(self, x: Tensor, factors: Tensor | None) -> Tensor:
        return super()._rope(x, factors) if self.shape.sliding[self.layer] else x


class Phi2(Parallel):
    """Queries scaled by hand."""

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, output: str | None, sinks: Tensor | None = None) -> Tensor:
        return super()._attend(tf.same_shape("SCALE", q), k, v, output, sinks)

    def _summed(self, attended: Tensor, fed: Tensor, residual: Tensor) -> Tensor:
        return tf.add(tf.add(attended, fed), residual)


class Falcon(Parallel):
    """The large ones have a norm of their own for attention."""

    def _attention_input(self, current: Tensor, normed: Tensor) -> Tensor:
        if self._maybe("attn_norm_2.weight") is None:
            return normed
        return self._norm(current, f"blk.{self.layer}.attn_norm_2.weight")

    def _summed(self, attended: Tensor, fed: Tensor, residual: Tensor) -> Tensor:
        return tf.add(tf.add(fed, attended), residual)


class GptNeoX(Parallel):
    """The feed-forward has a norm of its own; by the header, parallel or not."""

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        if "parallel residual" not in self.shape.extras:
            return Decoder._pass(self, current, last=last)
        residual = current
        attended = self._mix(self._norm(current, f"blk.{self.layer}.attn_norm.weight"))
        if last:
            attended, residual = self._wanted(attended, residual)
        fed = self._feed_forward(self._norm(residual, self._second_norm()))
        return self._summed(attended, fed, residual)


class StableLm(Parallel):
    """Parallel where the file has no second norm (12B), else one after the other."""

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        if self._maybe("ffn_norm.weight") is not None:
            return Decoder._pass(self, current, last=last)
        return super()._pass(current, last=last)

    def _summed(self, attended: Tensor, fed: Tensor, residual: Tensor) -> Tensor:
        return tf.add(fed, tf.add(attended, residual))
