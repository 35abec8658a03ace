"""What hybrids share: blocks that keep a state in place of a cache, and the short convolutions of LFM2.

As in src/llama-graph.cpp and src/models/lfm2.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.tensor import F32, I32, Tensor

# how the states in use are taken out of all: copied as rows, or read in place by the operation that goes on from them
Pick: TypeAlias = Callable[[Tensor, Tensor], Tensor]


class Recurrent(Decoder):
    """Attention in some blocks, a state in the others."""

    def _inputs(self) -> None:
        super()._inputs()
        b = self.batch
        self.state_rows = tf.graph_input(I32, b.sequences)
        self.kept_states = tf.view(self.state_rows, (b.sequences, 1, 1, 1))
        self.other_states = tf.view(self.state_rows, (0, 1, 1, 1), None, b.sequences * 4)

    def _load_state(self, states: Tensor, pick: Pick = tf.get_rows) -> Tensor:
        """Clear one state, fetch the ones in use, move the rest along (build_rs)."""
        g, width = self.graph, states.ne[0]
        rows = tf.reshape(states, width, states.ne[1])
        g.expand(tf.scale_in_place(tf.view(rows, (width, 1, 1, 1))))
        current = g.expand(pick(rows, self.kept_states))
        others = tf.get_rows(rows, self.other_states)
        g.expand(tf.copy_into(others, tf.view_2d(states, width, 0, states.nb[1], width * states.ne[1] * 4)))
        return current

    def _conv_input(self, mixed: Tensor) -> Tensor:
        s, sequences = self.shape, self.batch.sequences
        width = (s.conv_kernel - 1) * s.conv_width
        states = tf.cache(F32, self._here, width, sequences)
        old = tf.reshape(self._load_state(states), s.conv_kernel - 1, s.conv_width, sequences)
        joined = tf.concat(old, tf.transpose(mixed), 0)
        tail = tf.view_3d(
            joined,
            (s.conv_kernel - 1, s.conv_width, sequences),
            joined.nb[1],
            joined.nb[2],
            4 * (joined.ne[0] - old.ne[0]),
        )
        self.graph.expand(tf.copy_into(tail, tf.view_2d(states, width, sequences, states.nb[1])))
        return joined


class ShortConvolution(Recurrent):
    """LFM2, with experts or without."""

    output_norm = "token_embd_norm.weight"

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        residual = current
        normed = self._norm(current, f"blk.{self.layer}.attn_norm.weight")
        current = self._convolve(normed) if self.shape.recurrent[self.layer] else self._mix(normed)
        if last:
            current, residual = self._wanted(current, residual)
        joined = tf.add(residual, current)
        return tf.add(joined, self._feed_forward(self._norm(joined, self._second_norm())))

    def _convolve(self, x: Tensor) -> Tensor:
        s, sequences = self.shape, self.batch.sequences
        per = self.batch.tokens // sequences
        three = self._linear("shortconv.in_proj", tf.reshape(x, x.ne[0], per, sequences))
        size = (three.ne[0] // 3, three.ne[1], three.ne[2])
        b, c, x = (tf.view_3d(three, size, three.nb[1], three.nb[2], 4 * i * size[0]) for i in range(3))
        mixed = tf.transpose(tf.mul(b, x))
        columns = s.conv_kernel - 1
        states = tf.cache(F32, self._here, columns * s.embedding, sequences)
        old = tf.reshape(self._load_state(states), columns, s.embedding, sequences)
        joined = tf.concat(old, mixed, 0)
        tail = tf.view_3d(joined, old.ne[:3], joined.nb[1], joined.nb[2], 4 * (joined.ne[0] - columns))
        self.graph.expand(tf.copy_into(tail, tf.view_2d(states, states.ne[0], sequences, states.nb[1])))
        out = tf.mul(c, tf.ssm_conv(joined, self._block("shortconv.conv.weight")))
        return tf.reshape(self._linear("shortconv.out_proj", out), s.embedding, per * sequences)
