"""PLaMo 2: a Mamba of its own in all blocks but a few, norms before and after everything.

As in src/models/plamo2.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.mamba import MambaBlocks
from qwenops.memory.tensor import Tensor

_LEAST_STEP = 64  # numbers from which the time steps are made, at least


class Plamo2(MambaBlocks):
    """Its Mamba has the heads of the second generation and the projections of the first."""

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        residual = current
        normed = self._norm(current, f"blk.{self.layer}.attn_norm.weight")
        current = self._interleaved(normed) if self.shape.recurrent[self.layer] else self._mix(normed)
        current = self._norm(current, f"blk.{self.layer}.post_attention_norm")
        residual = tf.add(current, residual)
        current = self._feed_forward(self._norm(residual, self._second_norm()))
        current = self._norm(current, f"blk.{self.layer}.post_ffw_norm")
        if last:
            current, residual = self._wanted(current, residual)
        return tf.add(current, residual)

    def _gated(self, x: Tensor, up: str, gate: str, down: str) -> Tensor:
        return self._linear(down, tf.glu_halves(self._linear(up, x)))

    def _interleaved(self, x: Tensor) -> Tensor:
        s, per, sequences = self.shape, self._per, self.batch.sequences
        head = s.inner // s.rank
        size = (head, s.rank, per, sequences)
        both = self._linear("ssm_in", tf.reshape(x, x.ne[0], per, sequences))
        both = tf.cont(tf.permute(both, 0, 2, 1, 3), 2 * head, s.rank, per, sequences)
        strides = both.nb[1:]
        x = tf.cont(tf.view_4d(both, size, *strides, 4 * head), s.inner, per, sequences)
        z = tf.view_4d(both, size, *strides)
        x = self._convolved(x)
        b, c, dt = self._parts(self._linear("ssm_x", x))
        decay = tf.reshape(self._block("ssm_a"), 1, s.rank)
        heads = tf.view_4d(x, size, 4 * head, 4 * s.inner, 4 * s.inner * per)
        scanned = self._scanned(heads, dt, b, c, decay)
        y = tf.view_4d(scanned, size, 4 * head, 4 * s.inner, 4 * s.inner * per)
        y = tf.add(y, tf.mul(heads, tf.reshape(self._block("ssm_d"), 1, s.rank)))
        y = tf.glu(tf.cont(z), y)
        out = self._linear("ssm_out", tf.view_3d(y, (s.inner, per, sequences), y.nb[2], y.nb[3]))
        return tf.reshape(out, out.ne[0], per * sequences)

    def _parts(self, three: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """B, C and the time steps, each normed."""
        s, per, sequences = self.shape, self._per, self.batch.sequences
        row, sequence = three.nb[1], three.nb[2]
        flat = (s.state, per, sequences)
        b = tf.view_3d(three, flat, row, sequence)
        c = tf.view_3d(three, flat, row, sequence, 4 * s.state)
        step = max(_LEAST_STEP, s.embedding // 16)
        dt = tf.view_3d(three, (step, per, sequences), row, sequence, 8 * s.state)
        b, c, dt = (self._norm(t, f"blk.{self.layer}.ssm_{name}_norm") for t, name in ((b, "b"), (c, "c"), (dt, "dt")))
        dt = self._linear("ssm_dt", dt)
        b, c = (tf.view_4d(t, (s.state, 1, per, sequences), 4 * s.state, t.nb[1], t.nb[2]) for t in (b, c))
        return b, c, dt
