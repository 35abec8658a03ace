"""Decoders that differ from Llama in one or two places: norms, activations, positions, shared experts.

As in src/models of llama.cpp b10434, in the file of each architecture's name. What only adds a tensor (a bias, a norm
of queries and keys, a missing gate) needs no class: the builder looks whether the file has it.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.tensor import Tensor

_NO_ROPE_STEP = 4  # n_no_rope_layer_step of smollm3


class NormsBehind(Decoder):
    """OLMo 2, EXAONE 4: norms behind each part and none before."""

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        residual = current
        current = self._mix(current)
        if last:
            current, residual = self._wanted(current, residual)
        joined = tf.add(self._norm(current, f"blk.{self.layer}.post_attention_norm.weight"), residual)
        fed = self._norm(self._feed_forward(joined), f"blk.{self.layer}.post_ffw_norm.weight", pinned=False)
        return tf.add(fed, joined)


class LayerNorm(Decoder):
    """StarCoder 2: norms that also take the mean off."""

    norm_operation = "NORM"


class Gpt2(LayerNorm):
    """Learned positions, added to the embedding."""

    def _embedding(self) -> Tensor:
        rows = super()._embedding()
        return tf.add(rows, tf.get_rows(self._weight("position_embd.weight"), self.positions))

    def _rope(self, x: Tensor, factors: Tensor | None) -> Tensor:
        return x


class SquaredRelu(Decoder):
    """Arcee: the activation is squared."""

    def _activated(self, wide: Tensor) -> Tensor:
        return tf.same_shape("SQR", super()._activated(wide))


class Nemotron(SquaredRelu):
    """Minitron and Nemotron 4."""

    norm_operation = "NORM"


class ChatGlm(Decoder):
    """Gate and up in one matrix."""

    def _gated(self, x: Tensor, up: str, gate: str, down: str) -> Tensor:
        return self._linear(down, tf.glu_halves(self._linear(up, x)))


class SmolLm3(Decoder):
    """Every fourth block without positions."""

    period = _NO_ROPE_STEP

    def _rope(self, x: Tensor, factors: Tensor | None) -> Tensor:
        return super()._rope(x, factors) if (self.layer + 1) % _NO_ROPE_STEP else x


class SeedOss(Decoder):
    """The second norm under another name."""

    def _second_norm(self) -> str:
        return f"blk.{self.layer}.post_attention_norm.weight"


class HunyuanDense(Decoder):
    """Queries and keys are normed after they were turned."""

    def _placed(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        q, k = self._rope(q, None), self._rope(k, None)
        k = self._norm(k, f"blk.{self.layer}.attn_k_norm.weight")
        return self._norm(q, f"blk.{self.layer}.attn_q_norm.weight"), k


class Qwen2Moe(Decoder):
    """A shared expert behind a gate; the shares of the chosen experts stay as they are."""

    def _shares_sum_to_one(self) -> bool:
        return False

    def _shared_expert(self, x: Tensor) -> Tensor:
        gate = self._linear("ffn_gate_inp_shexp", x)
        gate = tf.same_shape("DIV", tf.unary(gate), gate)
        return tf.mul(super()._shared_expert(x), gate)


class SharesByHeader(Decoder):
    """dots.llm1, Ling 2: the header says whether the shares of the chosen experts are made to sum to one."""

    def _shares_sum_to_one(self) -> bool:
        return "shares sum to one" in self.shape.extras


class Deci(Decoder):
    """Nemotron Super and Ultra: blocks without attention, with one matrix in its place, or without a feed-forward."""

    def _pass(self, current: Tensor, *, last: bool) -> Tensor:
        residual = current
        attention = self._maybe("attn_norm.weight") is not None
        if attention:
            normed = self._norm(current, f"blk.{self.layer}.attn_norm.weight")
            by_heads = self.shape.kv_heads[self.layer] > 0
            current = self._mix(normed) if by_heads else tf.mul_mat(self._block("attn_output.weight"), normed)
        if last:
            current, wanted = self._wanted(current, residual)
        else:
            wanted = residual
        if self._maybe("ffn_norm.weight") is None:
            return residual  # the runtime skips the block altogether
        joined = tf.add(current, wanted) if attention else current
        return tf.add(self._feed_forward(self._norm(joined, self._second_norm())), joined)
