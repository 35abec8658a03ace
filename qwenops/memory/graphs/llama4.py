"""Llama 4: chunks in three blocks of four, a block without positions after every few, experts weighed before they run.

As in src/models/llama4.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from typing import Final

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.tensor import F32, Tensor

_NO_ROPE_STEP: Final = 4  # n_no_rope_layer_step, of files that have chunks
_MAVERICK_EXPERTS: Final = 128  # with so many, heads are not normed


class Llama4(Decoder):
    """Scout and Maverick."""

    period = _NO_ROPE_STEP

    def _inputs(self) -> None:
        super()._inputs()
        self.temperature = tf.graph_input(F32, 1, 1, self.batch.tokens)

    def _placed(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        s = self.shape
        if (self.layer + 1) % (_NO_ROPE_STEP if s.window else s.trunk_layers) == 0:
            return tf.mul(q, self.temperature), k
        factors = self._factors()
        q, k = self._rope(q, factors), self._rope(k, factors)
        if s.experts == _MAVERICK_EXPERTS:
            return q, k
        return tf.same_shape("RMS_NORM", q), tf.same_shape("RMS_NORM", k)

    def _route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The choice is by the logits; how much an expert counts goes through the sigmoid."""
        s, tokens = self.shape, x.ne[1]
        logits = self._linear("ffn_gate_inp", x)
        chance = tf.unary(logits)
        chosen = tf.top_k(logits, s.experts_used)
        return chosen, self._weighted(tf.get_rows(tf.reshape(chance, 1, s.experts, tokens), chosen))

    def _experts(self, x: Tensor) -> Tensor:
        s, g = self.shape, self.graph
        embedding, tokens = x.ne[0], x.ne[1]
        chosen, share = self._route(x)
        g.expand(share)
        weighed = tf.repeat(tf.reshape(x, embedding, 1, tokens), embedding, s.experts_used, tokens)
        weighed = tf.mul(weighed, share)
        up = self._chosen("ffn_up_exps", weighed, chosen)
        gate = self._chosen("ffn_gate_exps", weighed, chosen)
        out = g.expand(self._chosen("ffn_down_exps", tf.glu(gate, up), chosen))
        parts = [g.expand(tf.view_2d(out, embedding, tokens, out.nb[2], i * out.nb[1])) for i in range(s.experts_used)]
        total = parts[0]
        for part in parts[1:]:
            total = g.expand(tf.add(total, part))
        return tf.cont(total) if s.experts_used == 1 else total
