"""What RWKV has in place of attention, in its two generations: a state that tokens are mixed with by head.

As in src/models/rwkv6-base.cpp and rwkv7-base.cpp of llama.cpp b10434. `x` is the normed block input and `before` the
same one token earlier, both with a dimension for sequences.
"""

from __future__ import annotations

from abc import abstractmethod

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.recurrent import Recurrent
from qwenops.memory.recurrences import gated_linear_attention, wkv6, wkv7
from qwenops.memory.tensor import F32, Tensor


class TimeMix(Recurrent):
    """What both generations do with their state."""

    @abstractmethod
    def _mixed(self, x: Tensor, before: Tensor) -> Tensor:
        """The whole time mix of one block."""

    @property
    def _heads(self) -> int:
        return self.shape.embedding // self.shape.wkv_head

    def _by_head(self, x: Tensor) -> Tensor:
        return tf.reshape(x, self.shape.wkv_head, self._heads, self.batch.tokens)

    def _states(self) -> Tensor:
        return tf.cache(F32, self._here, self.shape.s_width, self.batch.sequences)

    def _parted(self, states: Tensor, out: Tensor) -> Tensor:
        """The rows of an output, its last state stored."""
        s, b = self.shape, self.batch
        rows = s.embedding * b.tokens
        last = tf.view(out, (s.s_width * b.sequences, 1, 1, 1), None, 4 * rows)
        self.graph.expand(tf.copy_into(last, tf.view(states, last.ne)))
        return tf.view(out, (rows, 1, 1, 1))

    def _group_normed(self, rows: Tensor) -> Tensor:
        s, tokens = self.shape, self.batch.tokens
        scale = self._maybe("time_mix_ln.weight")
        if scale is None:
            return tf.reshape(rows, s.embedding, tokens)
        normed = tf.same_shape("NORM", self._by_head(rows))
        normed = tf.reshape(normed, s.embedding, tokens)
        return tf.add(tf.mul(normed, scale), self._block("time_mix_ln.bias"))

    def _projected(self, rows: Tensor) -> Tensor:
        s, b = self.shape, self.batch
        return tf.reshape(self._linear("time_mix_output", rows), s.embedding, b.tokens // b.sequences, b.sequences)

    def _narrow(self, name: str, x: Tensor) -> Tensor:
        """Through a narrow layer without an activation (two small matrices)."""
        return tf.mul_mat(self._block(f"{name}2.weight"), tf.mul_mat(self._block(f"{name}1.weight"), x))

    def _narrow_bent(self, name: str, x: Tensor) -> Tensor:
        """The same with an activation between."""
        return tf.mul_mat(self._block(f"{name}2.weight"), tf.unary(tf.mul_mat(self._block(f"{name}1.weight"), x)))


class TimeMix6(TimeMix):
    """The sixth generation; on Qwen it has no first-token bonus and becomes gated linear attention."""

    def _mixed(self, x: Tensor, before: Tensor) -> Tensor:
        first = self._maybe("time_mix_first.weight")
        decayed, keyed, valued, received, gated = self._interpolated(x, before)
        r = self._linear("time_mix_receptance", received)
        k, v = self._linear("time_mix_key", keyed), self._linear("time_mix_value", valued)
        gate = tf.unary(self._linear("time_mix_gate", gated))
        k, v = (self._by_head(self._for_each_head(t)) for t in (k, v))
        r = self._by_head(r)
        w = tf.add(self._narrow_bent("time_mix_decay_w", decayed), self._block("time_mix_decay.weight"))
        w = self._by_head(tf.unary(tf.unary(tf.unary(w))))
        if first is None:
            k = tf.same_shape("SUB", k, tf.mul(k, w))
        states = self._states()
        state = self._load_state(states)
        out = gated_linear_attention(k, v, r, w, state) if first is None else wkv6(k, v, r, first, w, state)
        return self._projected(tf.mul(self._group_normed(self._parted(states, out)), gate))

    def _interpolated(self, x: Tensor, before: Tensor) -> list[Tensor]:
        """Five rows a token, each another mean of itself and the one before."""
        e, n = self.shape.embedding, self.batch.tokens
        change = tf.reshape(tf.same_shape("SUB", before, x), e, n)
        x = tf.reshape(x, e, n)
        down, up = self._block("time_mix_w1.weight"), self._block("time_mix_w2.weight")
        five = tf.add(tf.mul(change, self._block("time_mix_lerp_x.weight")), x)
        five = tf.reshape(tf.unary(tf.mul_mat(down, five)), down.ne[1] // 5, 1, 5, n)
        five = tf.mul_mat(tf.reshape(up, up.ne[0], up.ne[1], 1, 5), tf.cont(tf.permute(five, 0, 1, 3, 2)))
        fused = self._maybe("time_mix_lerp_fused.weight")
        if fused is not None:
            change, x = tf.reshape(change, e, 1, n), tf.reshape(x, e, 1, n)
            five = tf.add(tf.mul(tf.add(five, fused), change), x)
        parts = [tf.view_2d(five, e, n, five.nb[1], 4 * e * n * i) for i in range(5)]
        if fused is not None:
            return parts
        weights = (self._block(f"time_mix_lerp_{which}.weight") for which in "wkvrg")
        return [tf.add(tf.mul(tf.add(part, w), change), x) for part, w in zip(parts, weights, strict=True)]

    def _for_each_head(self, x: Tensor) -> Tensor:
        """Keys and values repeated up to the number of heads, where the model has fewer."""
        head, kv_heads, n = self.shape.wkv_head, self.shape.kv_heads[self.layer], self.batch.tokens
        if kv_heads in (0, self._heads):
            return x
        return tf.repeat(tf.reshape(x, head, 1, kv_heads, n), head, self._heads // kv_heads, kv_heads, n)


class TimeMix7(TimeMix):
    """The seventh generation; values of the first block are mixed into those of all others."""

    first_value: Tensor | None = None

    def _mixed(self, x: Tensor, before: Tensor) -> Tensor:
        s, n = self.shape, self.batch.tokens
        lerp = self._block("time_mix_lerp_fused.weight")
        change = tf.repeat(tf.same_shape("SUB", before, x), s.embedding, x.ne[1], x.ne[2], lerp.ne[3])
        each = tf.add(tf.mul(change, lerp), x)
        parts = [tf.view_2d(each, s.embedding, n, each.nb[1], 4 * s.embedding * n * i) for i in range(lerp.ne[3])]
        r = self._linear("time_mix_receptance", parts[0])
        w = tf.add(self._narrow_bent("time_mix_w", parts[1]), self._block("time_mix_w0.weight"))
        w = tf.unary(tf.same_shape("SCALE", tf.unary(w)))
        k = self._linear("time_mix_key", parts[2])
        v = self._value(parts[3])
        gated = self._maybe("time_mix_g1.weight") is not None
        gate = self._narrow_bent("time_mix_g", parts[5]) if gated else None
        a = tf.unary(tf.add(self._narrow("time_mix_a", parts[4]), self._block("time_mix_a0.weight")))
        kk = tf.same_shape("L2_NORM", self._by_head(tf.mul(k, self._block("time_mix_k_k.weight"))))
        ka = tf.mul(k, self._block("time_mix_k_a.weight"))
        k = tf.add(k, tf.same_shape("SUB", tf.mul(a, ka), ka))
        r, w, k, v, a = (self._by_head(t) for t in (r, w, k, v, a))
        states = self._states()
        out = wkv7(r, w, k, v, tf.unary(kk), tf.mul(kk, a), self._load_state(states))
        rows = self._group_normed(self._parted(states, out))
        bonus = tf.reshape(self._block("time_mix_r_k.weight"), s.wkv_head, self._heads)
        bonus = tf.sum_rows(tf.mul(tf.mul(k, r), bonus))
        rows = tf.add(rows, tf.reshape(tf.mul(v, bonus), s.embedding, n))
        return self._projected(rows if gate is None else tf.mul(rows, gate))

    def _value(self, x: Tensor) -> Tensor:
        v = self._linear("time_mix_value", x)
        if self.first_value is None:
            self.first_value = v
            return v
        share = tf.unary(tf.add(self._narrow("time_mix_v", x), self._block("time_mix_v0.weight")))
        return tf.add(v, tf.mul(tf.same_shape("SUB", self.first_value, v), share))
