"""What a load takes on a device outside every buffer: the driver's context, its kernels and its pools.

The runtime reads free memory after its context exists, a monitor (NVML, sysfs) or a data sheet before: only then does
the context come on top. Learned figures in the history replace these defaults.
"""

from __future__ import annotations

from typing import Final

from qwenops.machine.types import Device, Kind
from qwenops.memory.backends import backend_of
from qwenops.units import MIB

# CUDA: 451 to 456 MiB unaccounted for on each RTX 4090 in the sample that came with llama.cpp's memory breakdown.
# Vulkan: 27 to 32 MiB more than the buffers by nvidia-smi after three public loads (RTX 3060 laptop, RTX 3090).
# Metal's figure is a budget of the host's memory; nothing outside buffers is counted against it.
DEFAULT_BYTES: Final[dict[Kind, int]] = {
    "cuda": 456 * MIB,
    "rocm": 456 * MIB,
    "vulkan": 32 * MIB,
    "metal": 0,
    "cpu": 0,
}


def overhead_bytes(device: Device) -> int:
    """Bytes to add to the buffers of a device before they are compared with its free memory."""
    if device.source == "runtime" or backend_of(device).software:
        return 0
    return DEFAULT_BYTES[device.kind]
