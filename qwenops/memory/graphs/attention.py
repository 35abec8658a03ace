"""The graphs of models whose heads or caches are not those of Llama, by architecture."""

from __future__ import annotations

from typing import Final

from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.graphs.gemma3n import Gemma3n
from qwenops.memory.graphs.gemma4 import Gemma4
from qwenops.memory.graphs.mla import Latent

ATTENTION: Final[dict[str, type[Decoder]]] = {
    "deepseek2": Latent,
    "gemma3n": Gemma3n,
    "gemma4": Gemma4,
    "mistral4": Latent,
}
