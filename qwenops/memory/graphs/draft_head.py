"""A draft head inside the file (MTP): its own graph, and what the main graph keeps so that drafts can be taken back.

As in src/models/qwen35.cpp, qwen35moe.cpp (graph_mtp) and delta-net-base.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from qwenops.memory import tensor as tf
from qwenops.memory.graphs.hybrid import Hybrid
from qwenops.memory.graphs.recurrent import Recurrent
from qwenops.memory.tensor import F32, I32, Graph, Tensor


class RollingBack(Hybrid):
    """The main graph of a hybrid that is drafted for: the states after each of the last tokens are kept."""

    def _conv_input(self, mixed: Tensor) -> Tensor:
        s, sequences = self.shape, self.batch.sequences
        slots = 1 + self.batch.snapshots
        width = (s.conv_kernel - 1) * s.conv_width
        states = tf.cache(F32, self._here, width, sequences * slots)
        old = tf.reshape(self._load_state(states), s.conv_kernel - 1, s.conv_width, sequences)
        joined = tf.concat(old, tf.transpose(mixed), 0)
        size = (s.conv_kernel - 1, s.conv_width, sequences)
        for slot in range(slots):
            start = max(0, joined.ne[0] - old.ne[0] - slots + 1 + slot)
            tail = tf.view_3d(joined, size, joined.nb[1], joined.nb[2], 4 * start)
            kept = tf.view_2d(states, width, sequences, states.nb[1], (slots - 1 - slot) * sequences * 4 * width)
            self.graph.expand(tf.copy_into(tail, kept))
        return joined

    def _delta(
        self, q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        head, heads, per, sequences = v.ne
        out = tf.gated_delta_net(q, k, v, decay, beta, state, snapshots=1 + self.batch.snapshots)
        row = 4 * head
        result = tf.view_4d(out, (head, heads, per, sequences), row, row * heads, row * heads * per)
        size = head * head * heads
        kept = tf.view_2d(out, size, sequences, 4 * size, row * heads * per * sequences)
        return result, kept


class DraftHead(Hybrid):
    """One block behind the last: the embedding of a token beside the main model's hidden row, up to logits."""

    def _norm(self, x: Tensor, name: str, *, pinned: bool = True) -> Tensor:
        return Recurrent._norm(self, x, name, pinned=pinned)

    def build(self) -> Graph:
        """The whole graph, from a token and a hidden row to logits."""
        self._inputs()
        s, n = self.shape, self.batch.tokens
        self.layer = s.trunk_layers
        table = self._maybe("nextn.embed_tokens.weight") or self._weight("token_embd.weight")
        token = tf.get_rows(table, tf.graph_input(I32, n))
        hidden = self._norm(tf.graph_input(F32, s.embedding, n), f"blk.{self.layer}.nextn.hnorm.weight")
        token = self._norm(token, f"blk.{self.layer}.nextn.enorm.weight")
        current = self._linear("nextn.eh_proj", tf.concat(token, hidden, 0))
        normed = self._norm(current, f"blk.{self.layer}.attn_norm.weight")
        current = tf.add(self._gated_attention(normed), current)
        fed = self._feed_forward(self._norm(current, self._second_norm()))
        rows = self._head_norm(tf.add(fed, current))
        rows.is_output = True
        wanted = tf.get_rows(rows, self.wanted_rows)
        head = self._maybe("nextn.shared_head_head.weight") or self._weight("output.weight")
        logits = tf.mul_mat(head, wanted)
        logits.is_output = True
        self.graph.expand(logits)
        return self.graph

    def _head_norm(self, x: Tensor) -> Tensor:
        own = f"blk.{self.layer}.nextn.shared_head_norm.weight"
        return self._norm(x, own if self.layout.weight(own) else "output_norm.weight", pinned=False)
