"""The architectures that keep a state, by name: Mamba and its hybrids, RWKV."""

from __future__ import annotations

from typing import Final

from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.graphs.jamba import Jamba
from qwenops.memory.graphs.mamba import Mamba, Mamba2
from qwenops.memory.graphs.mamba_hybrids import FalconH1, GraniteHybrid
from qwenops.memory.graphs.nemotron_h import NemotronH
from qwenops.memory.graphs.plamo2 import Plamo2
from qwenops.memory.graphs.rwkv import Rwkv6, Rwkv6Qwen2, Rwkv7, Rwkv7Qwen2

RECURRENT: Final[dict[str, type[Decoder]]] = {
    "granitehybrid": GraniteHybrid,
    "falcon-h1": FalconH1,
    "jamba": Jamba,
    "nemotron_h": NemotronH,
    "nemotron_h_moe": NemotronH,
    "plamo2": Plamo2,
    "mamba": Mamba,
    "mamba2": Mamba2,
    "rwkv6": Rwkv6,
    "rwkv7": Rwkv7,
    "rwkv6qwen2": Rwkv6Qwen2,
    "arwkv7": Rwkv7Qwen2,
}
