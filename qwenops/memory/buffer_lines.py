"""What the log of llama-server says of single buffers, in the fit's trials and in a load alike.

Formats as printed by llama.cpp b10434 (src/llama-model.cpp, src/llama-kv-cache.cpp, src/llama-memory-recurrent.cpp,
src/llama-context.cpp, tools/mtmd/clip.cpp); Ollama 0.32.14 copies them into its own log unchanged. Sizes are bytes; the
log gives MiB with two digits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from qwenops.memory.types import Layers
from qwenops.units import MIB

BufferKind = Literal["model", "KV", "RS", "compute", "output"]

_BUFFER = re.compile(r"([A-Za-z_]\w*):\s+(\S+)\s+(model|KV|RS|compute|output)\s+buffer size\s*=\s*([\d.]+)\s*MiB")
# a cache as a whole, printed behind its buffers: its maker, its size in MiB, cells, layers
CACHE = re.compile(
    r"(llama_kv_cache|llama_memory_recurrent)\S*: size =\s*([\d.]+) MiB \(\s*(\d+) cells,\s*(\d+) layers"
)
_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")
_FLASH = re.compile(r"(?:Flash Attention|flash_attn\s+=) (enabled|disabled|not supported)")


@dataclass(frozen=True)
class BufferLine:
    """One buffer as logged: `component` is the function that made it, `backend` its buffer type ("Vulkan_Host").

    `of_draft` is whether it was made for a draft, in a context of its own behind the model's.
    """

    component: str
    backend: str
    kind: BufferKind
    size_bytes: int
    of_draft: bool = False

    @property
    def on_host(self) -> bool:
        """Host memory: plain, mapped, repacked or pinned. By the same rule as Ollama's isGPUBuffer."""
        return self.backend in ("CPU", "BLAS") or self.backend.startswith("CPU_") or self.backend.endswith("_Host")

    @property
    def device(self) -> str:
        """The device's own name, without what says how the buffer was made ("MTL0_Mapped" is "MTL0")."""
        return re.sub(r"_(Mapped|REPACK|Private)$", "", self.backend)

    @property
    def of_projector(self) -> bool:
        """Made for the vision projector, not for the text model."""
        return self.component == "reserve_compute_meta"


def buffer_in(line: str) -> BufferLine | None:
    """The buffer that a line is about, or None."""
    match = _BUFFER.search(line)
    if match is None:
        return None
    kind: BufferKind = match[3]  # type: ignore[assignment]  # the pattern admits only these words
    return BufferLine(component=match[1], backend=match[2], kind=kind, size_bytes=in_bytes(match[4]))


def layers_in(line: str) -> Layers | None:
    """How many layers a line says are on devices, or None."""
    match = _OFFLOADED.search(line)
    return Layers(int(match[1]), int(match[2])) if match else None


def flash_attn_in(line: str) -> bool | None:
    """Whether a line says that attention is fused; None where it says nothing of it."""
    match = _FLASH.search(line)
    return match[1] == "enabled" if match else None


def in_bytes(mib: str) -> int:
    """A figure of the log in bytes."""
    return round(float(mib) * MIB)
