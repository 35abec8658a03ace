"""The pieces that graphs of all families are made of: weights by name, norms, linear layers, experts.

As in src/llama-graph.cpp of llama.cpp b10434. Names in brackets are llama.cpp's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from qwenops.memory import tensor as tf
from qwenops.memory.shape import Shape
from qwenops.memory.tensor import Graph, Tensor

# norm results are pinned to their layer's device below this batch size, or when every layer is on a device
_FEW_TOKENS: Final = 32


@dataclass(frozen=True)
class Batch:
    """What one graph is built for: tokens over sequences, rows wanted, the cache behind it, the paths in force.

    The cache has a stream for each sequence or one for all, and `cells` in each of them.
    `snapshots` are the recurrent states kept beside the last one, so that drafted tokens can be taken back.
    `window_cells` are the cells of the blocks that see only a window; `pooling` is how an embedding server makes one
    vector of the rows of a sequence, None for any other server.
    """

    tokens: int
    sequences: int
    streams: int
    outputs: int
    cells: int
    type_k: int
    type_v: int
    flash: bool = True
    v_transposed: bool = False
    fused_recurrence: bool = True
    window_cells: int = 0
    pooling: int | None = None
    snapshots: int = 0


@dataclass(frozen=True)
class Layout:
    """Where things lie: the backend of each block, of the output, and a way to look a weight up.

    `weight` gives the tensor of a name, or None where the file has none. `blocks` are the blocks to build, a sample
    of the file's when not all are needed. `full` is whether every layer is on a device, `pinned` whether norms are kept
    on their layer's device.
    """

    weight: Callable[[str], Tensor | None]
    layer_backend: Sequence[int]
    blocks: Sequence[int]
    full: bool
    pinned: bool = True


class Pieces:
    """One graph being built, and what is common to its parts."""

    norm_operation = "RMS_NORM"
    output_norm = "output_norm.weight"

    def __init__(self, shape: Shape, layout: Layout, batch: Batch) -> None:
        self.shape = shape
        # a weight is one tensor, however often the graph uses it
        self.layout = replace(layout, weight=cache(layout.weight))
        self.batch = batch
        self.graph = Graph()
        self.layer = 0
        self._factors_by_backend: dict[int, Tensor | None] = {}

    def _weight(self, name: str) -> Tensor:
        found = self.layout.weight(name)
        if found is None:
            raise LookupError(name)
        return found

    def _block(self, name: str) -> Tensor:
        return self._weight(f"blk.{self.layer}.{name}")

    def _maybe(self, name: str) -> Tensor | None:
        return self.layout.weight(f"blk.{self.layer}.{name}")

    @property
    def _here(self) -> int:
        return self.layout.layer_backend[self.layer]

    def _norm(self, x: Tensor, name: str, *, pinned: bool = True) -> Tensor:
        normed = tf.same_shape(self.norm_operation, x)
        few = self.batch.tokens < _FEW_TOKENS
        if pinned and self.layout.pinned and (self.layout.full or few):
            normed.pin = self._here
        normed = tf.mul(normed, self._weight(name))
        bias = self.layout.weight(f"{name.removesuffix('weight')}bias")
        return normed if bias is None else tf.add(normed, bias)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        y = tf.mul_mat(self._block(f"{name}.weight"), x)
        bias = self._maybe(f"{name}.bias")
        return y if bias is None else tf.add(y, bias)

    def _gated(self, x: Tensor, up: str, gate: str, down: str) -> Tensor:
        wide = self._linear(up, x)
        if self._maybe(f"{gate}.weight") is None:
            return self._linear(down, self._activated(wide))
        return self._linear(down, tf.glu(self._linear(gate, x), wide))

    def _activated(self, wide: Tensor) -> Tensor:
        """The activation where nothing gates it."""
        return tf.unary(wide)

    def _experts(self, x: Tensor) -> Tensor:
        """Route, run the chosen experts, add them up (build_moe_ffn)."""
        s, g = self.shape, self.graph
        embedding, tokens = x.ne[0], x.ne[1]
        chosen, share = self._route(x)
        g.expand(share)
        x = tf.reshape(x, embedding, 1, tokens)
        both = self._maybe("ffn_gate_up_exps.weight")
        if both is not None:
            joined = tf.mul_mat_id(both, x, chosen)
            half = (joined.ne[0] // 2, joined.ne[1], joined.ne[2])
            gate = tf.view_3d(joined, half, joined.nb[1], joined.nb[2])
            up = tf.view_3d(joined, half, joined.nb[1], joined.nb[2], half[0] * 4)
        else:
            up = self._chosen("ffn_up_exps", x, chosen)
            ungated = self._maybe("ffn_gate_exps.weight") is None
            gate = up if ungated else self._chosen("ffn_gate_exps", x, chosen)
        out = self._chosen("ffn_down_exps", self._activated(up) if gate is up else tf.glu(gate, up), chosen)
        out = g.expand(tf.mul(out, share))
        parts = [g.expand(tf.view_2d(out, embedding, tokens, out.nb[2], i * out.nb[1])) for i in range(s.experts_used)]
        total = parts[0]
        for part in parts[1:]:
            total = g.expand(tf.add(total, part))
        return tf.cont(total) if s.experts_used == 1 else total

    def _route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The chosen experts of each token and their shares."""
        s, tokens = self.shape, x.ne[1]
        logits = self._linear("ffn_gate_inp", x)
        chance = tf.unary(logits) if "sigmoid gate" in s.extras else tf.soft_max(logits)
        bias = self._maybe("exp_probs_b.bias")
        wanted = chance if bias is None else tf.add(chance, bias)
        chosen = tf.top_k(self._of_best_groups(wanted) if s.expert_groups > 1 else wanted, s.experts_used)
        share = tf.get_rows(tf.reshape(chance, 1, s.experts, tokens), chosen)
        if self._shares_sum_to_one():
            share = tf.reshape(share, s.experts_used, tokens)
            share = tf.same_shape("DIV", share, tf.clamp(tf.sum_rows(share)))
            share = tf.reshape(share, 1, s.experts_used, tokens)
        return chosen, self._weighted(share)

    def _of_best_groups(self, wanted: Tensor) -> Tensor:
        """Only the groups whose two best experts are wanted most stay in the choice."""
        s, tokens = self.shape, wanted.ne[1]
        groups, each = s.expert_groups, s.experts // s.expert_groups
        grouped = tf.reshape(wanted, each, groups, tokens)
        best = tf.get_rows(tf.reshape(grouped, 1, each, groups, tokens), tf.top_k(grouped, 2))
        score = tf.sum_rows(tf.reshape(best, 2, groups, tokens))
        chosen = tf.top_k(tf.reshape(score, groups, tokens), s.expert_groups_used)
        kept = tf.set_rows(tf.same_shape("FILL", grouped), tf.get_rows(grouped, chosen), chosen)
        return tf.reshape(kept, s.experts, tokens)

    def _shares_sum_to_one(self) -> bool:
        return True

    def _weighted(self, share: Tensor) -> Tensor:
        return tf.same_shape("SCALE", share) if "expert scale" in self.shape.extras else share

    def _chosen(self, name: str, x: Tensor, chosen: Tensor) -> Tensor:
        y = tf.mul_mat_id(self._block(f"{name}.weight"), x, chosen)
        bias = self._maybe(f"{name}.bias")
        return y if bias is None else tf.same_shape("ADD_ID", y, bias, chosen)
