"""Nemotron H: one thing a block, a state, attention or a feed-forward network.

As in src/models/nemotron-h.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.mamba import MambaBlocks
from qwenops.memory.tensor import Tensor


class NemotronH(MambaBlocks):
    """Attention without positions, networks without a gate and with a squared ReLU; with experts or without."""

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        normed = self._norm(current, f"blk.{self.layer}.attn_norm.weight")
        if self.shape.recurrent[self.layer]:
            mixed = self._mamba2(normed)
        elif self.shape.kv_heads[self.layer]:
            mixed = self._mix(normed)
        else:
            mixed = self._feed_forward(normed)
        return tf.add(mixed, current)

    def _head(self, current: Tensor) -> None:
        # all rows are kept up to here: a draft head may want them
        hidden = self._norm(current, "output_norm.weight", pinned=False)
        hidden.is_output = True
        self._logits(tf.get_rows(hidden, self.wanted_rows))

    def _rope(self, x: Tensor, factors: Tensor | None) -> Tensor:
        return x

    def _activated(self, wide: Tensor) -> Tensor:
        return tf.same_shape("SQR", tf.unary(wide))

    def _experts(self, x: Tensor) -> Tensor:
        """The experts see a narrower copy of what the router sees, where the model has one."""
        self._routed_by = x
        narrow = self._maybe("ffn_latent_down.weight") is not None
        out = super()._experts(self._linear("ffn_latent_down", x) if narrow else x)
        return self._linear("ffn_latent_up", out) if narrow else out

    def _route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super()._route(self._routed_by)

    def _shares_sum_to_one(self) -> bool:
        return "shares sum to one" in self.shape.extras
