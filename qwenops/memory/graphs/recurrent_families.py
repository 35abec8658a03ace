"""The architectures that keep a state, by name: Mamba and its hybrids."""

from __future__ import annotations

from typing import Final

from qwenops.memory.graphs.decoder import Decoder
from qwenops.memory.graphs.jamba import Jamba
from qwenops.memory.graphs.mamba import Mamba, Mamba2
from qwenops.memory.graphs.mamba_hybrids import FalconH1, GraniteHybrid
from qwenops.memory.graphs.nemotron_h import NemotronH

RECURRENT: Final[dict[str, type[Decoder]]] = {
    "granitehybrid": GraniteHybrid,
    "falcon-h1": FalconH1,
    "jamba": Jamba,
    "nemotron_h": NemotronH,
    "nemotron_h_moe": NemotronH,
    "mamba": Mamba,
    "mamba2": Mamba2,
}
