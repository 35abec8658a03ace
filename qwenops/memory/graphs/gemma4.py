"""Gemma 4: heads of two sizes, caches that the last blocks share, what each block gets to know of the token, experts.

As in src/models/gemma4.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.decoder import rotate
from qwenops.memory.graphs.gemma import Gemma
from qwenops.memory.tensor import I32, Tensor


class SharedCaches(Gemma):
    """What Gemma 3n and 4 have in common: per-layer inputs, and last blocks that read the caches of others."""

    def _per_layer_inputs(self, embedded: Tensor) -> Tensor:
        """For every block a slice of numbers a token, looked up and projected (project_per_layer_inputs)."""
        s, n, width = self.shape, self.batch.tokens, self._weight("per_layer_proj_norm.weight").ne[0]
        looked_up = tf.get_rows(self._weight("per_layer_token_embd.weight"), tf.graph_input(I32, n))
        looked_up = tf.same_shape("SCALE", tf.reshape(looked_up, width, s.layers, n))
        self.graph.expand(looked_up)
        projected = tf.same_shape("SCALE", tf.mul_mat(self._weight("per_layer_model_proj.weight"), embedded))
        projected = tf.reshape(projected, width, s.layers, n)
        projected = self._norm(projected, "per_layer_proj_norm.weight", pinned=False)
        both = tf.same_shape("SCALE", tf.add(projected, looked_up))
        return tf.cont(tf.permute(both, 0, 2, 1, 3))

    def _mix(self, x: Tensor) -> Tensor:
        s, n = self.shape, self.batch.tokens
        head, factors = s.key_head(self.layer), self._factors_here()
        q = tf.mul_mat(self._block("attn_q.weight"), x)
        q = self._placed_one(tf.reshape(q, head, q.ne[0] // head, n), "attn_q_norm", factors)
        if not s.owns_cache(self.layer):
            return self._attend_shared(q)
        kv_heads = s.kv_heads[self.layer]
        k = tf.mul_mat(self._block("attn_k.weight"), x)
        v = k if self._maybe("attn_v.weight") is None else tf.mul_mat(self._block("attn_v.weight"), x)
        k, v = tf.reshape(k, head, kv_heads, n), tf.reshape(v, head, kv_heads, n)
        k = self._placed_one(k, "attn_k_norm", factors)
        return self._attend(q, k, tf.same_shape("RMS_NORM", v), "attn_output")

    def _placed_one(self, x: Tensor, norm: str, factors: Tensor | None) -> Tensor:
        return tf.rope(self._norm(x, f"blk.{self.layer}.{norm}.weight"), self.positions, factors)

    def _factors_here(self) -> Tensor | None:
        return None if self.shape.sliding[self.layer] else self._factors()

    def _attend_shared(self, q: Tensor) -> Tensor:
        """Attention over the cache of an earlier block (build_attn without keys and values)."""
        s, b = self.shape, self.batch
        owner = s.cache_of(self.layer)
        place = self.layout.layer_backend[owner]
        cache = self.window if s.sliding[self.layer] else self.whole
        if cache.k_rotation is not None:
            q = rotate(q, cache.k_rotation)
        self.graph.expand(q)
        k = tf.cache(b.type_k, place, s.k_width(owner), cache.cells, b.streams)
        v = tf.cache(b.type_v, place, self._v_width(), cache.cells, b.streams)
        k = self._cached(k, s.key_head(self.layer))
        current = self._heads_attend(q, k, self._cached_v(v), cache.mask, None)
        if cache.v_rotation is not None:
            current = rotate(current, cache.v_rotation)
        return self._linear("attn_output", current)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, output: str | None, sinks: Tensor | None = None) -> Tensor:
        return super(Gemma, self)._attend(q, k, v, output, sinks)  # queries are not scaled


class Gemma4(SharedCaches):
    """Text models of Gemma 4: E2B and E4B, the dense ones, and the mixture of experts."""

    def _inputs(self) -> None:
        super()._inputs()
        self._per_layer: Tensor | None = None

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        if self.layer == self.layout.blocks[0] and self.layout.weight("per_layer_token_embd.weight") is not None:
            self._per_layer = self._per_layer_inputs(current)
        residual = current
        current = self._mix(self._norm(current, f"blk.{self.layer}.attn_norm.weight"))
        # the last block keeps all rows: a draft head may want the hidden states
        joined = tf.add(self._norm(current, f"blk.{self.layer}.post_attention_norm.weight"), residual)
        current = self._feed_forward(joined)
        current = tf.add(self._norm(current, f"blk.{self.layer}.post_ffw_norm.weight", pinned=False), joined)
        if self._per_layer is not None:
            current = tf.add(current, self._of_the_token(current, self._per_layer))
        scale = self._maybe("layer_output_scale.weight")
        return current if scale is None else tf.mul(current, scale)

    def _of_the_token(self, current: Tensor, per_layer: Tensor) -> Tensor:
        """What this block gets to know of the token itself, let through by a gate."""
        gate = tf.unary(tf.mul_mat(self._block("inp_gate.weight"), current))
        known = tf.mul(gate, slice_of(per_layer, self.layer))
        return self._norm(tf.mul_mat(self._block("proj.weight"), known), f"blk.{self.layer}.post_norm.weight")

    def _feed_forward(self, x: Tensor) -> Tensor:
        block = f"blk.{self.layer}"
        dense = self._gated(self._norm(x, f"{block}.ffn_norm.weight"), "ffn_up", "ffn_gate", "ffn_down")
        if self._maybe("ffn_gate_inp.weight") is None:
            return dense
        dense = self._norm(dense, f"{block}.post_ffw_norm_1.weight")
        normed = self._norm(x, f"{block}.pre_ffw_norm_2.weight")
        routed = tf.same_shape("SCALE", tf.same_shape("RMS_NORM", x))
        routed = tf.mul(routed, self._block("ffn_gate_inp.scale"))
        self._logits_of_experts = tf.mul_mat(self._block("ffn_gate_inp.weight"), routed)
        return tf.add(dense, self._norm(self._experts(normed), f"{block}.post_ffw_norm_2.weight"))

    def _route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s, tokens = self.shape, x.ne[1]
        chance = tf.soft_max(self._logits_of_experts)
        chosen = tf.top_k(chance, s.experts_used)
        share = tf.get_rows(tf.reshape(chance, 1, s.experts, tokens), chosen)
        share = tf.reshape(share, s.experts_used, tokens)
        share = tf.same_shape("DIV", share, tf.clamp(tf.sum_rows(share)))
        return chosen, tf.reshape(share, 1, s.experts_used, tokens)

    def _chosen(self, name: str, x: Tensor, chosen: Tensor) -> Tensor:
        y = super()._chosen(name, x, chosen)
        scale = self._maybe(f"{name}.scale")
        if scale is None:
            return y
        each = tf.repeat(tf.reshape(scale, 1, scale.ne[0], 1), 1, scale.ne[0], x.ne[2])
        return tf.mul(y, tf.get_rows(each, chosen))

    def _head(self, current: Tensor) -> None:
        hidden = self._norm(current, self.output_norm, pinned=False)
        hidden.is_output = True
        self._logits(tf.get_rows(hidden, self.wanted_rows))


def slice_of(stack: Tensor, number: int) -> Tensor:
    """One plane of a stack of planes (ggml_view_2d_slice)."""
    width, rows = stack.ne[:2]
    return tf.view_2d(stack, width, rows, 4 * width, number * width * rows * 4)
