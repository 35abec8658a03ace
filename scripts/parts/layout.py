"""Where each part lies below the parts folder, and which are whole."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TINY_FAMILIES = ("qwen3vl", "qwen25vl", "qwen35")


def default_root() -> Path:
    """QWENOPS_PARTS, else ~/.cache/qwenops-parts (XDG_CACHE_HOME counts)."""
    named = os.environ.get("QWENOPS_PARTS")
    if named:
        return Path(named).expanduser().resolve()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser().resolve() / "qwenops-parts"


@dataclass(frozen=True)
class Layout:
    """The parts folder. Paths are given whether or not the file is there yet."""

    root: Path

    @property
    def ollama(self) -> Path:
        """The Ollama binary; it looks for its helpers in ../lib/ollama."""
        return self.root / "ollama" / "bin" / "ollama"

    @property
    def ollama_libs(self) -> Path:
        """llama-server, its libraries and llama-quantize, where this Ollama looks for them."""
        return self.root / "ollama" / "lib" / "ollama"

    @property
    def llama_server(self) -> Path:
        """The Vulkan and CPU llama-server that Ollama starts."""
        return self.ollama_libs / "llama-server"

    @property
    def reference_bin(self) -> Path:
        """llama.cpp's own tools, CPU only."""
        return self.root / "reference" / "bin"

    def reference(self, tool: str) -> Path:
        """One of llama.cpp's tools, such as llama-bench."""
        return self.reference_bin / tool

    @property
    def judges(self) -> Path:
        """llama-bench and llama-perplexity with the very libraries of llama-cpp-python: bin/ and lib/."""
        return self.root / "judges"

    def judge(self, tool: str) -> Path:
        """One of the two."""
        return self.judges / "bin" / tool

    @property
    def models(self) -> Path:
        """Small models that really load."""
        return self.root / "models"

    @property
    def smollm(self) -> Path:
        """A real chat model of 135 million parameters, Apache-2.0, 94 MiB."""
        return self.models / "SmolLM2-135M-Instruct.Q4_1.gguf"

    def tiny(self, family: str) -> Path:
        """A small random model of one of TINY_FAMILIES."""
        return self.models / f"tiny-{family}-f16.gguf"

    def tiny_projector(self, family: str) -> Path:
        """The projector that belongs to it."""
        return self.models / f"mmproj-tiny-{family}-f16.gguf"

    @property
    def axe(self) -> Path:
        """axe-core, which finds what a screen reader or a keyboard cannot use of a page."""
        return self.root / "browser" / "axe.min.js"

    @property
    def wheels(self) -> Path:
        """Wheels built here, for pip's --find-links."""
        return self.root / "wheels"

    @property
    def stamps(self) -> Path:
        """One file a finished part: written last, so a half-made part has none."""
        return self.root / "stamps"
