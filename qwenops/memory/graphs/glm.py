"""GLM 4 and 4.5: positions for pictures where the header asks for them, norms behind each part or experts.

As in src/models/glm4.cpp and glm4-moe.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.tensor import I32, Tensor


class Sectioned(Decoder):
    """Four numbers say where a token is, if the header has sections for them."""

    def _inputs(self) -> None:
        super()._inputs()
        if "rope sections" in self.shape.extras:
            self.positions = tf.graph_input(I32, 4 * self.batch.tokens)


class Glm4Moe(Sectioned):
    """GLM 4.5, 4.6 and 4.7: dense first blocks, then experts and a shared one."""

    def _second_norm(self) -> str:
        return f"blk.{self.layer}.post_attention_norm.weight"

    def _shares_sum_to_one(self) -> bool:
        return "shares sum to one" in self.shape.extras


class Glm4(Glm4Moe):
    """The dense ones of 2025, with gate and up in one matrix."""

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        block = f"blk.{self.layer}"
        residual = current
        current = self._mix(self._norm(current, f"{block}.attn_norm.weight"))
        if last:
            current, residual = self._wanted(current, residual)
        joined = tf.add(self._norm(current, f"{block}.post_attention_norm.weight"), residual)
        fed = self._feed_forward(self._norm(joined, f"{block}.ffn_norm.weight"))
        return tf.add(self._norm(fed, f"{block}.post_ffw_norm.weight"), joined)

    def _gated(self, x: Tensor, up: str, gate: str, down: str) -> Tensor:
        return self._linear(down, tf.glu_halves(self._linear(up, x)))
