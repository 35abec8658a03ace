"""Hunyuan's models for pictures, and MiniMax M2: queries and keys normed after they are turned, or over all heads.

As in src/models/hunyuan-vl.cpp and minimax-m2.cpp of llama.cpp b10434.
"""

from __future__ import annotations

from qwenops.memory.graphs.glm import Sectioned
from qwenops.memory.graphs.olmo import Olmoe
from qwenops.memory.graphs.variants import HunyuanDense


class HunyuanVl(Sectioned, HunyuanDense):
    """Hunyuan with positions for pictures."""


class MiniMaxM2(Olmoe):
    """The shares of the chosen experts are made to sum to one."""

    def _shares_sum_to_one(self) -> bool:
        return True
