"""The first Mamba with attention in some blocks: Jamba.

As in src/models/jamba.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.mamba import MambaBlocks
from qwenops.memory.tensor import Tensor


class Jamba(MambaBlocks):
    """The first Mamba with attention without positions; experts in every other block of the large ones."""

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        residual = current
        normed = self._norm(current, f"blk.{self.layer}.attn_norm.weight")
        current = self._mamba(normed) if self.shape.recurrent[self.layer] else self._mix(normed)
        if last:
            current, residual = self._wanted(current, residual)
        joined = tf.add(residual, current)
        return tf.add(joined, self._feed_forward(self._norm(joined, self._second_norm())))

    def _rope(self, x: Tensor, factors: Tensor | None) -> Tensor:
        return x

    def _shares_sum_to_one(self) -> bool:
        return False
