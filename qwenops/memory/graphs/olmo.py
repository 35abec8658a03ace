"""OLMo 2, OLMo 3 and OLMoE: queries and keys normed over all heads at once.

As in src/models/olmo2.cpp and olmoe.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.graphs.variants import NormsBehind
from qwenops.memory.tensor import Tensor


class Olmoe(Decoder):
    """With experts, whose shares stay as they are."""

    def _mix(self, x: Tensor) -> Tensor:
        s, n = self.shape, self.batch.tokens
        kv_heads = s.kv_heads[self.layer]
        q, k, v = (self._linear(name, x) for name in ("attn_q", "attn_k", "attn_v"))
        q = self._norm(q, f"blk.{self.layer}.attn_q_norm.weight")
        k = self._norm(k, f"blk.{self.layer}.attn_k_norm.weight")
        q = self._rope(tf.reshape(q, s.head_k, s.heads, n), None)
        k = self._rope(tf.reshape(k, s.head_k, kv_heads, n), None)
        return self._attend(q, k, tf.reshape(v, s.head_v, kv_heads, n), "attn_output")

    def _shares_sum_to_one(self) -> bool:
        return False


class Olmo2(NormsBehind, Olmoe):
    """Dense; OLMo 3 has a window in three blocks of four."""
