"""Hybrids of the second Mamba and attention: Granite 4 and Falcon H1.

As in src/models/granite-hybrid.cpp and falcon-h1.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.dense import Granite
from qwenops.memory.graphs.mamba import MambaBlocks
from qwenops.memory.graphs.pieces import Batch, Layout
from qwenops.memory.shape import Shape
from qwenops.memory.tensor import Tensor


class GraniteHybrid(MambaBlocks, Granite):
    """Granite 4: attention in a few blocks, its scales everywhere."""

    def _mix(self, x: Tensor) -> Tensor:
        return self._mamba2(x) if self.shape.recurrent[self.layer] else super()._mix(x)

    def _finished(self, logits: Tensor) -> Tensor:
        return tf.same_shape("SCALE", logits) if "logit scale" in self.shape.extras else logits


class FalconH1(MambaBlocks):
    """Attention and Mamba side by side in every block, each behind a norm of its own with the same weights."""

    def __init__(self, shape: Shape, layout: Layout, batch: Batch) -> None:
        super().__init__(shape, layout, batch)
        self._fetched: dict[str, Tensor] = {}

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        residual = current
        norm = f"blk.{self.layer}.attn_norm.weight"
        attended = self._mix(self._norm(current, norm))
        scanned = self._mamba2(self._norm(current, norm))
        joined = tf.add(tf.add(attended, scanned), residual)
        if last:
            joined = tf.get_rows(joined, self.wanted_rows)
        return tf.add(self._feed_forward(self._norm(joined, self._second_norm())), joined)

    def _weight(self, name: str) -> Tensor:
        # a weight that was fetched for the first norm is not fetched again for the second
        if name not in self._fetched:
            self._fetched[name] = super()._weight(name)
        return self._fetched[name]

    def _second_norm(self) -> str:
        return f"blk.{self.layer}.ffn_norm"
