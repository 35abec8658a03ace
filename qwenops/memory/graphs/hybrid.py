"""The blocks that only the hybrids of Qwen have: gated attention and the gated delta net.

As in src/models/qwen35.cpp, qwen35moe.cpp, qwen3next.cpp and delta-net-base.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.recurrent import Recurrent
from qwenops.memory.tensor import F32, Tensor

_CHUNK = 64  # tokens that the unfused delta net takes at once


class Hybrid(Recurrent):
    """Full attention in some blocks, a recurrent state in the others."""

    def _norm(self, x: Tensor, name: str, *, pinned: bool = True) -> Tensor:
        normed = super()._norm(x, name, pinned=pinned)
        return self.graph.expand(normed) if name.endswith(".attn_norm.weight") else normed

    def _second_norm(self) -> str:
        return f"blk.{self.layer}.post_attention_norm.weight"

    def _wanted(self, current: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        # the last layer keeps all rows: a draft head may want the hidden states
        return current, residual

    def _head(self, current: Tensor) -> None:
        hidden = self._norm_rows(current)
        hidden.is_output = True
        self._logits(tf.get_rows(hidden, self.wanted_rows))

    def _norm_rows(self, current: Tensor) -> Tensor:
        return super()._norm(current, "output_norm.weight", pinned=False)

    def _mix(self, x: Tensor) -> Tensor:
        return self._recurrence(x) if self.shape.recurrent[self.layer] else self._gated_attention(x)

    def _shared_expert(self, x: Tensor) -> Tensor:
        shared = super()._shared_expert(x)
        return tf.mul(shared, tf.unary(self._linear("ffn_gate_inp_shexp", x)))

    def _gated_attention(self, x: Tensor) -> Tensor:
        s, n = self.shape, self.batch.tokens
        head, kv_heads = s.head_v, s.kv_heads[self.layer]
        both = self._linear("attn_q", x)
        size = (head, s.heads, n)
        q = tf.view_3d(both, size, 8 * head, 8 * head * s.heads)
        q = self._norm(q, f"blk.{self.layer}.attn_q_norm.weight")
        k, v = self._linear("attn_k", x), self._linear("attn_v", x)
        k = self._norm(tf.reshape(k, head, kv_heads, n), f"blk.{self.layer}.attn_k_norm.weight")
        gate = tf.cont(tf.view_3d(both, size, 8 * head, 8 * head * s.heads, 4 * head), head * s.heads, n)
        v = tf.reshape(v, head, kv_heads, n)
        q, k = tf.rope(q, self.positions), tf.rope(k, self.positions)
        out = self._attend(q, k, v, None)
        return self._linear("attn_output", tf.mul(out, tf.unary(gate)))

    def _recurrence(self, x: Tensor) -> Tensor:
        s, b = self.shape, self.batch
        per, sequences = b.tokens // b.sequences, b.sequences
        head_v = s.inner // s.rank
        mixed = self._linear("attn_qkv", x)
        mixed = tf.reshape(mixed, mixed.ne[0], per, sequences)
        z = self._linear("attn_gate", x)
        beta, alpha = self._beta_and_alpha(x, per, sequences)
        decay = tf.mul(tf.unary(tf.add(alpha, self._block("ssm_dt.bias"))), self._block("ssm_a"))
        decay = tf.reshape(decay, 1, s.rank, per, sequences)
        convolved = self._conv_input(mixed)
        states = tf.cache(F32, self._here, s.state * s.inner, sequences)
        state = tf.reshape(self._load_state(states), head_v, head_v, s.rank, sequences)
        out = tf.unary(tf.ssm_conv(convolved, self._block("ssm_conv1d.weight")))
        q, k, v = self._split_conv(out, per, sequences, head_v)
        q, k = tf.same_shape("L2_NORM", q), tf.same_shape("L2_NORM", k)
        if s.groups != s.rank:
            q, k = self._for_each_value(q), self._for_each_value(k)
        result, last = self._delta(q, k, v, decay, beta, state)
        self.graph.expand(tf.copy_into(last, tf.view_2d(states, s.state * s.inner, sequences, states.nb[1])))
        z = tf.reshape(z, head_v, s.rank, per, sequences)
        normed = self._norm(result, f"blk.{self.layer}.ssm_norm.weight")
        final = tf.reshape(tf.mul(normed, tf.unary(z)), head_v * s.rank, per, sequences)
        projected = tf.mul_mat(self._block("ssm_out.weight"), final)
        return tf.reshape(projected, s.embedding, per * sequences)

    def _beta_and_alpha(self, x: Tensor, per: int, sequences: int) -> tuple[Tensor, Tensor]:
        s = self.shape
        beta = tf.unary(tf.reshape(tf.mul_mat(self._block("ssm_beta.weight"), x), 1, s.rank, per, sequences))
        return beta, tf.reshape(tf.mul_mat(self._block("ssm_alpha.weight"), x), s.rank, per, sequences)

    def _for_each_value(self, key: Tensor) -> Tensor:
        """Keys repeated up to the number of values, which only the unfused delta net needs."""
        if self.batch.fused_recurrence:
            return key
        return tf.repeat(key, key.ne[0], self.shape.rank, key.ne[2], key.ne[3])

    def _split_conv(self, out: Tensor, per: int, sequences: int, head_v: int) -> tuple[Tensor, Tensor, Tensor]:
        s = self.shape
        row = 4 * (2 * s.state * s.groups + head_v * s.rank)
        keys = 4 * s.state * s.groups
        qk_size = (s.state, s.groups, per, sequences)
        q = tf.view_4d(out, qk_size, 4 * s.state, row, row * per)
        k = tf.view_4d(out, qk_size, 4 * s.state, row, row * per, keys)
        v = tf.view_4d(out, (head_v, s.rank, per, sequences), 4 * head_v, row, row * per, 2 * keys)
        return q, k, v

    def _delta(
        self, q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        head, heads, per, sequences = v.ne
        if not self.batch.fused_recurrence and per > 1:
            return chunked_delta(q, k, v, decay, beta, state)
        out = tf.gated_delta_net(q, k, v, decay, beta, state)
        row = 4 * head
        result = tf.view_4d(out, (head, heads, per, sequences), row, row * heads, row * heads * per)
        last = tf.view_4d(
            out,
            (head, head, heads, sequences),
            row,
            row * head,
            row * head * heads,
            row * heads * per * sequences,
        )
        return result, last


class Qwen3Next(Hybrid):
    """The first of them: beta and alpha from one matrix, keys always repeated."""

    def _beta_and_alpha(self, x: Tensor, per: int, sequences: int) -> tuple[Tensor, Tensor]:
        s = self.shape
        each = s.rank // s.groups
        both = tf.reshape(self._linear("ssm_ba", x), 2 * each, s.groups, per, sequences)
        size = (each, s.groups, per, sequences)
        beta = tf.unary(tf.cont(tf.view_4d(both, size, both.nb[1], both.nb[2], both.nb[3])))
        alpha = tf.cont(tf.view_4d(both, size, both.nb[1], both.nb[2], both.nb[3], 4 * each), s.rank, per, sequences)
        return tf.reshape(beta, 1, s.rank, per, sequences), alpha

    def _for_each_value(self, key: Tensor) -> Tensor:
        state, groups, per, sequences = key.ne
        apart = tf.reshape(key, state, 1, groups, per * sequences)
        repeated = tf.repeat(apart, state, self.shape.rank // groups, groups, per * sequences)
        return tf.reshape(repeated, state, self.shape.rank, per, sequences)


def chunked_delta(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The delta rule without a fused operation (build_delta_net_chunking): chunks of 64 tokens, one after the other."""
    head_k, heads_k, tokens, sequences = q.ne
    head_v, heads_v = v.ne[0], v.ne[1]
    padded = -(-tokens // _CHUNK) * _CHUNK
    chunks = padded // _CHUNK
    batch_k, batch_v = heads_k * sequences, heads_v * sequences

    def by_head(t: Tensor) -> Tensor:
        t = tf.permute(t, 0, 2, 1, 3)
        return tf.pad_to(t, t.ne[0], padded, t.ne[2], t.ne[3])

    q, k, v, g, b = (by_head(t) for t in (tf.same_shape("SCALE", q), k, v, decay, beta))
    v_b, k_b = tf.mul(v, b), tf.mul(k, b)
    q = tf.reshape(q, head_k, _CHUNK, chunks, batch_k)
    k = tf.reshape(k, head_k, _CHUNK, chunks, batch_k)
    k_b = tf.reshape(k_b, head_k, _CHUNK, chunks, batch_v)
    v_b = tf.reshape(v_b, head_v, _CHUNK, chunks, batch_v)
    g = tf.reshape(g, 1, _CHUNK, chunks, batch_v)
    sums = tf.same_shape("CUMSUM", _turned(g))
    spread = tf.repeat(tf.reshape(sums, 1, _CHUNK, chunks, batch_v), _CHUNK, _CHUNK, chunks, batch_v)
    mask = tf.unary(tf.same_shape("TRI", tf.same_shape("SUB", spread, sums)))
    k_k = tf.mul(tf.mul_mat(k, k_b), mask)
    k_q = tf.same_shape("TRI", tf.mul(tf.mul_mat(k, q), mask))
    lower = tf.same_shape("TRI", k_k)
    ones = tf.same_shape("FILL", tf.view(lower, (_CHUNK, 1, 1, 1)))
    identity = Tensor(F32, (_CHUNK, _CHUNK, 1, 1), "DIAG", (ones,))
    solved = tf.same_shape("SOLVE_TRI", tf.unary(lower), tf.add(lower, identity))
    solved.src.reverse()
    solved = tf.add(solved, identity)
    v = tf.mul_mat(_turned(v_b), solved)
    grown = tf.unary(sums)
    k_decayed = tf.mul_mat(tf.mul(_turned(k_b), grown), solved)
    q_grown = tf.mul(q, _turned(grown))
    last = tf.view_4d(
        sums, (1, sums.ne[1], sums.ne[2], sums.ne[3]), sums.nb[1], sums.nb[2], sums.nb[3], 4 * (sums.ne[0] - 1)
    )
    last = tf.cont(last)
    last_grown = tf.transpose(tf.unary(last))
    rest = tf.unary(tf.unary(tf.same_shape("SUB", sums, last)))
    k_rest = _turned(tf.mul(k, _turned(rest)))
    state = tf.reshape(state, head_v, head_v, 1, batch_v)
    v_turned = _turned(v)
    for chunk in range(chunks):
        new = tf.same_shape("SUB", _slice(v_turned, chunk), tf.mul_mat(_slice(k_decayed, chunk), state))
        inside = tf.mul_mat(new, _slice(k_q, chunk))
        between = tf.mul_mat(state, _slice(q_grown, chunk))
        v = tf.set_in_place(v, tf.add(between, inside))
        update = tf.mul_mat(_slice(k_rest, chunk), new)
        state = tf.add(tf.mul(state, _slice(last_grown, chunk)), update)
    row = 4 * head_v
    out = tf.view_4d(v, (head_v, tokens, heads_v, sequences), row, row * padded, row * padded * heads_v)
    return tf.permute(out, 0, 2, 1, 3), tf.reshape(state, head_v, head_v, heads_v, sequences)


def _turned(t: Tensor) -> Tensor:
    return tf.cont(tf.transpose(t))


def _slice(t: Tensor, i: int) -> Tensor:
    return tf.view_4d(t, (t.ne[0], t.ne[1], 1, t.ne[3]), t.nb[1], t.nb[2], t.nb[3], t.nb[2] * i)
