"""gpt-oss: a window in every other block, a sink for each head, experts with biases.

As in src/models/openai-moe.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.tensor import Tensor


class GptOss(Decoder):
    """The open models of OpenAI."""

    def _second_norm(self) -> str:
        return f"blk.{self.layer}.post_attention_norm.weight"

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, output: str | None, sinks: Tensor | None = None) -> Tensor:
        return super()._attend(q, k, v, output, self._block("attn_sinks.weight"))

    def _wanted(self, current: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        # the last block keeps all rows: a draft head may want the hidden states
        return current, residual

    def _head(self, current: Tensor) -> None:
        super()._head(tf.get_rows(current, self.wanted_rows))

    def _route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The softmax is over the chosen ones."""
        s, tokens = self.shape, x.ne[1]
        chance = self._linear("ffn_gate_inp", x)
        chosen = tf.top_k(chance, s.experts_used)
        share = tf.get_rows(tf.reshape(chance, 1, s.experts, tokens), chosen)
        share = tf.soft_max(tf.reshape(share, s.experts_used, tokens))
        return chosen, tf.reshape(share, 1, s.experts_used, tokens)
