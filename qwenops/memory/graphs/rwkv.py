"""RWKV 6 and 7, and both grafted on Qwen 2: a time mix in every block, no attention.

As in src/models/rwkv6.cpp, rwkv7.cpp, rwkv6qwen2.cpp and arwkv7.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.time_mix import TimeMix, TimeMix6, TimeMix7
from qwenops.memory.tensor import F32, Tensor


class Shifting(TimeMix):
    """What a block passes on from one batch to the next: its last rows."""

    def _in_sequences(self, x: Tensor) -> Tensor:
        b = self.batch
        return tf.reshape(x, self.shape.embedding, b.tokens // b.sequences, b.sequences)

    def _flat(self, x: Tensor) -> Tensor:
        return tf.reshape(x, self.shape.embedding, self.batch.tokens)

    def _shift_states(self) -> Tensor:
        return tf.cache(F32, self._here, self.shape.r_width, self.batch.sequences)

    def _shifted_rows(self, states: Tensor) -> Tensor:
        s = self.shape
        return tf.reshape(self._load_state(states), s.embedding, s.shifted, self.batch.sequences)

    def _one_earlier(self, shift: Tensor, x: Tensor) -> Tensor:
        """Each token's row, one token late."""
        e, per, sequences, _ = x.ne
        return tf.concat(shift, tf.view_3d(x, (e, per - 1, sequences), x.nb[1], x.nb[2]), 1)

    def _last_rows(self, x: Tensor) -> Tensor:
        e, per, sequences, _ = x.ne
        return tf.view_3d(x, (e, 1, sequences), x.nb[1], x.nb[2], 4 * e * (per - 1))

    def _keep(self, states: Tensor, rows: Tensor) -> None:
        kept = tf.view(rows, (states.elements, 1, 1, 1))
        self.graph.expand(tf.copy_into(kept, tf.view(states, kept.ne)))


class Rwkv(Shifting):
    """The models of the project itself: two shifts a block, a channel mix in place of a feed-forward network."""

    norm_operation = "NORM"

    def _embedding(self) -> Tensor:
        return self._norm(super()._embedding(), "token_embd_norm.weight")

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        s = self.shape
        current = self._in_sequences(current)
        states = self._shift_states()
        shift = self._shifted_rows(states)
        one = (s.embedding, 1, self.batch.sequences)
        time_shift = tf.view_3d(shift, one, shift.nb[1], shift.nb[2])
        channel_shift = tf.view_3d(shift, one, shift.nb[1], shift.nb[2], 4 * s.embedding)
        normed = self._norm(current, f"blk.{self.layer}.attn_norm.weight")
        joined = tf.add(self._mixed(normed, self._one_earlier(time_shift, normed)), current)
        again = self._norm(joined, f"blk.{self.layer}.attn_norm_2.weight")
        before = self._one_earlier(channel_shift, again)
        self._keep(states, tf.concat(self._last_rows(normed), self._last_rows(again), 1))
        joined, again, before = (self._flat(t) for t in (joined, again, before))
        if last:
            joined, again, before = (tf.get_rows(t, self.wanted_rows) for t in (joined, again, before))
        out = tf.add(self._channel_mixed(again, before), joined)
        rescaled = s.rescaled_every and (self.layer + 1) % s.rescaled_every == 0
        return tf.same_shape("SCALE", out) if rescaled else out

    def _channel_mixed(self, x: Tensor, before: Tensor) -> Tensor:
        change = tf.same_shape("SUB", before, x)
        keyed = tf.add(tf.mul(change, self._block("channel_mix_lerp_k.weight")), x)
        k = tf.same_shape("SQR", tf.unary(self._linear("channel_mix_key", keyed)))
        if self._maybe("channel_mix_receptance.weight") is None:
            return self._linear("channel_mix_value", k)
        received = tf.add(tf.mul(change, self._block("channel_mix_lerp_r.weight")), x)
        r = tf.unary(self._linear("channel_mix_receptance", received))
        return tf.mul(r, self._linear("channel_mix_value", k))


class Grafted(Shifting):
    """A time mix in the place of Qwen's attention: one shift a block, the rest as it was."""

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        current = self._in_sequences(current)
        states = self._shift_states()
        shift = self._shifted_rows(states)
        normed = self._norm(current, f"blk.{self.layer}.attn_norm.weight")
        mixed = self._mixed(normed, self._one_earlier(shift, normed))
        self._keep(states, self._last_rows(normed))
        joined = self._flat(tf.add(mixed, current))
        if last:
            joined = tf.get_rows(joined, self.wanted_rows)
        return tf.add(self._feed_forward(self._norm(joined, self._second_norm())), joined)


class Rwkv6(TimeMix6, Rwkv):
    """The sixth generation."""


class Rwkv7(TimeMix7, Rwkv):
    """The seventh."""


class Rwkv6Qwen2(TimeMix6, Grafted):
    """The sixth on Qwen 2.5."""


class Rwkv7Qwen2(TimeMix7, Grafted):
    """The seventh on Qwen 2.5."""
