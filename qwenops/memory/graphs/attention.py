"""The graphs of models whose heads or caches are not those of Llama, by architecture."""

from __future__ import annotations

from typing import Final

from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.graphs.exaone import Exaone4, ExaoneMoe
from qwenops.memory.graphs.gemma3n import Gemma3n
from qwenops.memory.graphs.gemma4 import Gemma4
from qwenops.memory.graphs.glm import Glm4, Glm4Moe
from qwenops.memory.graphs.hunyuan import HunyuanVl, MiniMaxM2
from qwenops.memory.graphs.llama4 import Llama4
from qwenops.memory.graphs.mla import Latent
from qwenops.memory.graphs.variants import HunyuanDense

ATTENTION: Final[dict[str, type[Decoder]]] = {
    "deepseek2": Latent,
    "exaone": Decoder,
    "exaone-moe": ExaoneMoe,
    "exaone4": Exaone4,
    "gemma3n": Gemma3n,
    "gemma4": Gemma4,
    "glm4": Glm4,
    "glm4moe": Glm4Moe,
    "hunyuan-moe": HunyuanDense,
    "hunyuan_vl": HunyuanVl,
    "llama4": Llama4,
    "minimax-m2": MiniMaxM2,
    "mistral4": Latent,
}
