"""Gemma 3n: four streams of rows that are predicted and corrected (AltUp), low-rank side paths (Laurel), shared caches.

As in src/models/gemma3n.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.gemma4 import SharedCaches, slice_of
from qwenops.memory.tensor import Tensor


class Gemma3n(SharedCaches):
    """Text models of Gemma 3n. The first stream is the one that attention and feed-forward see."""

    @property
    def _streams(self) -> int:
        return self._weight("altup_proj.weight").ne[2] + 1

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        block = f"blk.{self.layer}"
        if self.layer == self.layout.blocks[0]:
            self._per_layer = self._per_layer_inputs(current)
            current = self._stacked(current)
        predicted = self._predict(current)
        active = slice_of(predicted, 0)
        normed = self._norm(active, f"{block}.attn_norm.weight")
        side = self._laurel(normed)
        attended = tf.add(self._norm(self._mix(normed), f"{block}.post_attention_norm.weight"), active)
        joined = tf.same_shape("SCALE", tf.add(attended, side))
        out = self._feed_forward(self._norm(joined, f"{block}.ffn_norm.weight"))
        out = tf.add(self._norm(out, f"{block}.post_ffw_norm.weight", pinned=False), joined)
        return self._with_token(self._correct(predicted, out))

    def _laurel(self, x: Tensor) -> Tensor:
        low = tf.mul_mat(self._block("laurel_l.weight"), x)
        back = tf.mul_mat(self._block("laurel_r.weight"), low)
        return tf.add(self._norm(back, f"blk.{self.layer}.laurel_post_norm.weight"), x)

    def _feed_forward(self, x: Tensor) -> Tensor:
        up = tf.mul_mat(self._block("ffn_up.weight"), x)
        gate = tf.mul_mat(self._block("ffn_gate.weight"), x)
        if self.layer < self.shape.sparse_blocks:
            gate = _largest(gate)
        return tf.mul_mat(self._block("ffn_down.weight"), tf.mul(up, tf.unary(gate)))

    # --- streams ------------------------------------------------------------------------------------------------------

    def _stacked(self, x: Tensor) -> Tensor:
        """The embedding and its projections, each as long as it."""
        length = _magnitude(x)
        others = tf.mul_mat(self._weight("altup_proj.weight"), tf.repeat(x, *x.ne[:2], self._streams - 1))
        new_length = _magnitude(others)
        return tf.concat(x, tf.same_shape("DIV", tf.mul(others, length), new_length), 2)

    def _router(self, x: Tensor) -> Tensor:
        normed = tf.same_shape("SCALE", self._norm(x, f"blk.{self.layer}.altup_router_norm.weight"))
        return tf.unary(tf.mul_mat(self._block("altup_router.weight"), normed))

    def _predict(self, x: Tensor) -> Tensor:
        shares = tf.mul_mat(self._block("altup_predict_coef.weight"), self._router(slice_of(x, 0)))
        shares = tf.reshape(shares, self._streams, self._streams, x.ne[1])
        predicted = tf.mul_mat(tf.cont(tf.permute(x, 1, 2, 0, 3)), shares)
        return tf.add(tf.cont(tf.permute(predicted, 0, 2, 1, 3)), x)

    def _correct(self, predicted: Tensor, out: Tensor) -> Tensor:
        """What the block found out, passed on to all streams (altup_correct)."""
        n, streams = self.batch.tokens, self._streams
        shares = tf.mul_mat(self._block("altup_correct_coef.weight"), self._router(out))
        news = tf.same_shape("SUB", out, slice_of(predicted, 0))
        shares = tf.cont(tf.transpose(tf.same_shape("SCALE", shares)), 1, n, streams)
        news = tf.repeat(news, self.shape.embedding, n, streams)
        return tf.add(tf.mul(news, shares), predicted)

    def _with_token(self, corrected: Tensor) -> Tensor:
        """What the block gets to know of the token itself, added to all streams but the first."""
        first = tf.mul(slice_of(corrected, 0), self._block("altup_correct_scale.weight"))
        first = tf.unary(tf.mul_mat(self._block("inp_gate.weight"), first))
        first = tf.mul(first, slice_of(self._per_layer, self.layer))
        first = tf.mul_mat(self._block("proj.weight"), first)
        first = self._norm(first, f"blk.{self.layer}.post_norm.weight")
        return tf.concat(slice_of(corrected, 0), tf.add(_but_the_first(corrected), first), 2)

    def _head(self, current: Tensor) -> None:
        length = _magnitude(slice_of(current, 0))
        others = tf.mul_mat(self._weight("altup_unembd_proj.weight"), _but_the_first(current))
        new_length = _magnitude(others)
        others = tf.same_shape("DIV", tf.mul(others, length), new_length)
        merged = slice_of(current, 0)
        for i in range(self._streams - 1):
            merged = tf.add(merged, slice_of(others, i))
        super()._head(tf.get_rows(tf.same_shape("SCALE", merged), self.wanted_rows))


def _but_the_first(stack: Tensor) -> Tensor:
    width, rows, planes = stack.ne[:3]
    return tf.view_3d(stack, (width, rows, planes - 1), stack.nb[1], stack.nb[2], stack.nb[2])


def _magnitude(x: Tensor) -> Tensor:
    return tf.same_shape("SQRT", tf.sum_rows(tf.same_shape("SQR", x)))


def _largest(x: Tensor) -> Tensor:
    """Only what is above the mean by some standard deviations (gaussian_topk)."""
    mean = Tensor(x.type, (1, *x.ne[1:]), "MEAN", (x,))
    spread = tf.sum_rows(tf.same_shape("SQR", tf.same_shape("SUB", x, mean)))
    spread = tf.same_shape("SQRT", tf.same_shape("SCALE", spread))
    cut = tf.add(mean, tf.same_shape("SCALE", spread))
    return tf.unary(tf.same_shape("SUB", x, cut))
