"""Selective state spaces of both generations: the blocks, and the models that are made of nothing else.

As in src/models/mamba-base.cpp, mamba.cpp and mamba2.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.recurrent import Recurrent
from qwenops.memory.recurrences import ssm_scan
from qwenops.memory.tensor import F32, Tensor


class MambaBlocks(Recurrent):
    """The two blocks, for models that mix them with others."""

    def _mamba(self, x: Tensor) -> Tensor:
        """The first generation: a decay for each number of the state (build_mamba_layer)."""
        s, per, sequences = self.shape, self._per, self.batch.sequences
        both = self._linear("ssm_in", tf.reshape(x, x.ne[0], per, sequences))
        half = (s.inner, per, sequences)
        x = tf.view_3d(both, half, both.nb[1], both.nb[2])
        z = tf.view_3d(both, half, both.nb[1], both.nb[2], 4 * s.inner)
        x = self._convolved(x)
        three = self._linear("ssm_x", x)
        dt = tf.view_3d(three, (s.rank, per, sequences), three.nb[1], three.nb[2])
        size = (s.state, 1, per, sequences)
        b = tf.view_4d(three, size, 4 * s.state, three.nb[1], three.nb[2], 4 * s.rank)
        c = tf.view_4d(three, size, 4 * s.state, three.nb[1], three.nb[2], 4 * (s.rank + s.state))
        dt, b, c = (self._small_norm(t, f"ssm_{name}_norm") for t, name in ((dt, "dt"), (b, "b"), (c, "c")))
        dt = self._linear("ssm_dt", dt)
        heads = tf.reshape(x, 1, s.inner, per, sequences)
        scanned = self._scanned(heads, dt, b, c)
        y = tf.view_3d(scanned, half, heads.nb[2], heads.nb[3])
        y = tf.add(y, tf.mul(x, self._block("ssm_d")))
        out = self._linear("ssm_out", tf.glu(tf.cont(z), y))
        return tf.reshape(out, out.ne[0], per * sequences)

    def _small_norm(self, x: Tensor, name: str) -> Tensor:
        """A norm of dt, B or C, which some models have and Falcon Mamba has without weights."""
        if self._maybe(f"{name}.weight") is not None:
            return self._norm(x, f"blk.{self.layer}.{name}.weight")
        return tf.same_shape("RMS_NORM", x) if "norms without weights" in self.shape.extras else x

    def _mamba2(self, x: Tensor) -> Tensor:
        """The second generation: a decay for each head (build_mamba2_layer)."""
        s, per, sequences = self.shape, self._per, self.batch.sequences
        both = self._linear("ssm_in", tf.reshape(x, x.ne[0], per, sequences))
        head = s.inner // s.rank
        size = (head, s.rank, per, sequences)
        row, sequence = both.nb[1], both.nb[2]
        z = tf.view_4d(both, size, 4 * head, row, sequence)
        mixed = tf.view_3d(both, (s.conv_width, per, sequences), row, sequence, 4 * s.inner)
        dt = tf.view_3d(both, (s.rank, per, sequences), row, sequence, 4 * (s.inner + s.conv_width))
        mixed = self._convolved(mixed)
        row, sequence = mixed.nb[1], mixed.nb[2]
        x = tf.view_4d(mixed, size, 4 * head, row, sequence)
        group = (s.state, s.groups, per, sequences)
        b = tf.view_4d(mixed, group, 4 * s.state, row, sequence, 4 * s.inner)
        c = tf.view_4d(mixed, group, 4 * s.state, row, sequence, 4 * (s.inner + s.groups * s.state))
        dt = tf.add(tf.cont(dt), self._block("ssm_dt.bias"))
        scanned = self._scanned(x, dt, b, c)
        y = tf.view_4d(scanned, size, x.nb[1], s.rank * x.nb[1], per * s.rank * x.nb[1])
        y = tf.add(y, tf.mul(x, self._block("ssm_d")))
        y = tf.glu(tf.cont(z), y)
        if self._maybe("ssm_norm.weight") is not None:
            y = tf.reshape(y, s.inner // s.groups, s.groups, per, sequences)
            y = self._norm(y, f"blk.{self.layer}.ssm_norm.weight")
        out = self._linear("ssm_out", tf.reshape(y, s.inner, per, sequences))
        return tf.reshape(out, out.ne[0], per * sequences)

    @property
    def _per(self) -> int:
        return self.batch.tokens // self.batch.sequences

    def _convolved(self, x: Tensor) -> Tensor:
        joined = self._conv_input(x)
        out = tf.ssm_conv(joined, self._block("ssm_conv1d.weight"))
        bias = self._maybe("ssm_conv1d.bias")
        return tf.unary(out if bias is None else tf.add(out, bias))

    def _scanned(self, x: Tensor, dt: Tensor, b: Tensor, c: Tensor, decay: Tensor | None = None) -> Tensor:
        """Outputs and last states; the scan itself picks the states it starts from."""
        s, sequences = self.shape, self.batch.sequences
        a = self._block("ssm_a") if decay is None else decay
        states = tf.cache(F32, self._here, s.s_width, sequences)

        def scan(rows: Tensor, ids: Tensor) -> Tensor:
            state = tf.reshape(rows, s.state, x.ne[0], x.ne[1], sequences)
            return ssm_scan(state, x, dt, a, b, c, ids)

        scanned = self._load_state(states, scan)
        last = tf.view(scanned, (s.s_width, sequences, 1, 1), None, 4 * x.elements)
        self.graph.expand(tf.copy_into(last, tf.view_2d(states, s.s_width, sequences, states.nb[1])))
        return scanned


class Mamba(MambaBlocks):
    """Blocks of the first generation and nothing else."""

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        residual = current
        current = self._state_space(self._norm(current, f"blk.{self.layer}.attn_norm.weight"))
        if last:
            current, residual = self._wanted(current, residual)
        return tf.add(current, residual)

    def _state_space(self, x: Tensor) -> Tensor:
        return self._mamba(x)


class Mamba2(Mamba):
    """The same of the second."""

    def _state_space(self, x: Tensor) -> Tensor:
        return self._mamba2(x)
