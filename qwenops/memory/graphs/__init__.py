"""The graphs that are replayed, by architecture: one builder for those whose blocks are alike, one module a family."""

from __future__ import annotations

from typing import Final

from qwenops.memory.graphs.attention import ATTENTION
from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.graphs.dense import Granite, Mistral3, Phi3
from qwenops.memory.graphs.dense_families import DENSE
from qwenops.memory.graphs.embedder import EMBEDDERS
from qwenops.memory.graphs.gemma import Gemma
from qwenops.memory.graphs.gpt_oss import GptOss
from qwenops.memory.graphs.hybrid import Hybrid, Qwen3Next
from qwenops.memory.graphs.recurrent import ShortConvolution
from qwenops.memory.graphs.recurrent_families import RECURRENT

GRAPHS: Final[dict[str, type[Decoder]]] = {
    **ATTENTION,
    **RECURRENT,
    "llama": Decoder,
    "qwen2": Decoder,
    "qwen2vl": Decoder,
    "qwen25vl": Decoder,
    "qwen3": Decoder,
    "qwen3vl": Decoder,
    "qwen3moe": Decoder,
    "qwen3vlmoe": Decoder,
    "qwen35": Hybrid,
    "qwen35moe": Hybrid,
    "qwen3next": Qwen3Next,
    "lfm2": ShortConvolution,
    "lfm2moe": ShortConvolution,
    "gemma2": Gemma,
    "gemma3": Gemma,
    "gpt-oss": GptOss,
    "phi3": Phi3,
    "granite": Granite,
    "granitemoe": Granite,
    "mistral3": Mistral3,
    **DENSE,
    **EMBEDDERS,
}
KNOWN: Final = frozenset(GRAPHS)
