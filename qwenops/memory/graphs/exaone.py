"""EXAONE 4 and K-EXAONE: queries and keys normed by head, positions only in blocks with a window where there are any.

As in src/models/exaone4.cpp and exaone-moe.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.tensor import Tensor


class ExaoneMoe(Decoder):
    """With experts, and norms where Llama has them."""

    def _placed(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        q = self._norm(q, f"blk.{self.layer}.attn_q_norm.weight")
        k = self._norm(k, f"blk.{self.layer}.attn_k_norm.weight")
        if self.shape.window and not self.shape.sliding[self.layer]:
            return q, k
        factors = self._factors()
        return self._rope(q, factors), self._rope(k, factors)

    def _shares_sum_to_one(self) -> bool:
        return "shares sum to one" in self.shape.extras


class Exaone4(ExaoneMoe):
    """Dense, with norms behind each part and none before."""

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        residual = current
        current = self._mix(current)
        if last:
            current, residual = self._wanted(current, residual)
        joined = tf.add(self._norm(current, f"blk.{self.layer}.post_attention_norm.weight"), residual)
        fed = self._norm(self._feed_forward(joined), f"blk.{self.layer}.post_ffw_norm.weight", pinned=False)
        return tf.add(fed, joined)
