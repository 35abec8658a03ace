"""Mesa's Vulkan driver for the CPU: where it is, and how to show a program that device and no other."""

from __future__ import annotations

from pathlib import Path

FOLDERS = ("/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d")
NO_GPU = {"OLLAMA_VULKAN": "0", "GGML_VK_VISIBLE_DEVICES": "-1"}


def software_gpu_driver() -> Path | None:
    """The driver file of the software GPU, or None where Mesa's Vulkan drivers are not installed."""
    for folder in FOLDERS:
        for file in sorted(Path(folder).glob("lvp_icd*.json")):
            return file
    return None


def software_gpu_environment() -> dict[str, str]:
    """The variables that show llama.cpp and Ollama the software GPU, and no other, as device 0.

    The driver is named so that a real card in the same machine is neither used nor counted.
    """
    settings = {"GGML_VK_VISIBLE_DEVICES": "0", "OLLAMA_VULKAN": "1", "OLLAMA_IGPU_ENABLE": "1"}
    if driver := software_gpu_driver():
        settings |= {"VK_DRIVER_FILES": str(driver), "VK_ICD_FILENAMES": str(driver)}
    return settings
