"""EXAONE 4 and K-EXAONE: queries and keys normed by head, positions only in blocks with a window where there are any.

As in src/models/exaone4.cpp and exaone-moe.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.graphs.variants import NormsBehind
from qwenops.memory.tensor import Tensor


class ExaoneMoe(Decoder):
    """With experts, and norms where Llama has them."""

    def _placed(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        q = self._norm(q, f"blk.{self.layer}.attn_q_norm.weight")
        k = self._norm(k, f"blk.{self.layer}.attn_k_norm.weight")
        if self.shape.window and not self.shape.sliding[self.layer]:
            return q, k
        factors = self._factors()
        return self._rope(q, factors), self._rope(k, factors)

    def _shares_sum_to_one(self) -> bool:
        return "shares sum to one" in self.shape.extras


class Exaone4(NormsBehind, ExaoneMoe):
    """Dense."""
