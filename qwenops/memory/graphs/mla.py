"""Multi-head latent attention: DeepSeek V2 and V3, Kimi K2, GLM 4.7 Flash, Mistral 4.

Keys and values are kept as one narrow row, which every head widens for itself; files of an older kind have the keys
and values of all heads. As in src/models/deepseek2.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.tensor import F32, Tensor


class Latent(Decoder):
    """Decoders with latent attention, dense first blocks and shared experts."""

    def _inputs(self) -> None:
        super()._inputs()
        self.temperature = tf.graph_input(F32, 1, 1, self.batch.tokens)

    def _mix(self, x: Tensor) -> Tensor:
        s, n = self.shape, self.batch.tokens
        head, turned = s.mla_head_k or s.head_k, s.rotated
        plain, rank = head - turned, self._block("attn_kv_a_norm.weight").ne[0]
        q = self._queries(x)
        row = 4 * head
        q_plain = tf.view_3d(q, (plain, s.heads, n), row, row * s.heads)
        q_turned = tf.view_3d(q, (turned, s.heads, n), row, row * s.heads, 4 * plain)
        joint = tf.mul_mat(self._block("attn_kv_a_mqa.weight"), x)
        step = joint.nb[1]
        latent = tf.view_2d(joint, rank, n, step)
        k_turned = tf.view_3d(joint, (turned, 1, n), step, step, 4 * rank)
        q_turned, k_turned = tf.rope(q_turned, self.positions), tf.rope(k_turned, self.positions)
        latent = self._norm(latent, f"blk.{self.layer}.attn_kv_a_norm.weight")
        if s.latent_k:
            return self._over_latent(q_plain, q_turned, latent, k_turned)
        return self._over_heads(q_plain, q_turned, latent, k_turned)

    def _queries(self, x: Tensor) -> Tensor:
        if self._maybe("attn_q.weight") is not None:
            return tf.mul_mat(self._block("attn_q.weight"), x)
        low = tf.mul_mat(self._block("attn_q_a.weight"), x)
        return tf.mul_mat(self._block("attn_q_b.weight"), self._norm(low, f"blk.{self.layer}.attn_q_a_norm.weight"))

    def _over_latent(self, q_plain: Tensor, q_turned: Tensor, latent: Tensor, k_turned: Tensor) -> Tensor:
        """One key for all heads, the front of which is the value as well (build_attn with v_mla)."""
        s, b, g = self.shape, self.batch, self.graph
        absorbed = tf.mul_mat(self._block("attn_k_b.weight"), tf.permute(q_plain, 0, 2, 1, 3))
        q = self._cooled(tf.concat(tf.permute(absorbed, 0, 2, 1, 3), q_turned, 0))
        value = tf.reshape(latent, latent.ne[0], 1, b.tokens)
        key = tf.concat(value, k_turned, 0)
        for t in (q, value, key):
            g.expand(t)
        kept = tf.cache(b.type_k, self._here, s.latent_k, self.whole.cells, b.streams)
        g.expand(self._store(kept, key, self.whole.k_numbers))
        k = self._cached(kept, s.latent_k)
        v = tf.view_4d(k, (latent.ne[0], *k.ne[1:]), *k.nb[1:])
        return self._linear("attn_output", self._heads_attend(q, k, v, self.whole.mask, None))

    def _over_heads(self, q_plain: Tensor, q_turned: Tensor, latent: Tensor, k_turned: Tensor) -> Tensor:
        """Keys and values of every head."""
        s, n = self.shape, self.batch.tokens
        wide = tf.mul_mat(self._block("attn_kv_b.weight"), latent)
        plain = q_plain.ne[0]
        row = 4 * (plain + s.head_v)
        k_plain = tf.view_3d(wide, (plain, s.heads, n), row, row * s.heads)
        v = tf.cont(tf.view_3d(wide, (s.head_v, s.heads, n), row, row * s.heads, 4 * plain))
        q = self._cooled(tf.concat(q_plain, q_turned, 0))
        k = tf.concat(k_plain, tf.repeat(k_turned, *q_turned.ne), 0)
        return self._attend(q, k, v, "attn_output")

    def _cooled(self, q: Tensor) -> Tensor:
        return tf.mul(q, self.temperature) if "temperature" in self.shape.extras else q

    def _attended(self, out: Tensor) -> Tensor:
        """What the heads saw, widened where it was latent, one row a token."""
        if not self.shape.latent_k:
            return super()._attended(out)
        wide = tf.mul_mat(self._block("attn_v_b.weight"), tf.permute(out, 0, 2, 1, 3))
        return super()._attended(tf.cont(tf.permute(wide, 0, 2, 1, 3)))

    def _weighed(self, v: Tensor, scores: Tensor) -> Tensor:
        seen = super()._weighed(v, scores)
        return tf.mul_mat(self._block("attn_v_b.weight"), seen) if self.shape.latent_k else seen

    def _shares_sum_to_one(self) -> bool:
        return "shares sum to one" in self.shape.extras
