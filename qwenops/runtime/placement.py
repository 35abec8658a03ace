"""Where the scheduler puts a load: devices, batch and mmap, from what it believes the load takes.

Source: server/sched.go (selectLlamaServerPlacement, availableMemoryForLoad, automaticGenerationBatch,
disableMmapDefaultReason, disableMmapForHostPressure), Ollama v0.32.14. Sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwenops.machine.types import Device
from qwenops.runtime.envconfig import boolean
from qwenops.runtime.facts import ModelFacts, RunOptions
from qwenops.units import GIB, MIB

if TYPE_CHECKING:
    from qwenops.runtime.types import FlashAttention

# The scheduler fills at most this share of what is free.
ADMIT_PERCENT = 80
_BATCH_HEADROOM_PERCENT = {2048: 60, 1024: 75}
_BATCH_SURCHARGE_BYTES = {2048: 2 * GIB, 1024: 768 * MIB}
_DECIMAL_8_GB = 8 * 1000**3


@dataclass(frozen=True)
class SystemMemory:
    """The host's memory as the scheduler counts it."""

    total_bytes: int = 0
    free_bytes: int = 0


def default_num_batch(
    total_ctx: int,
    predicted_bytes: int,
    available_bytes: int,
    flash_attn: FlashAttention,
    devices: Sequence[Device],
) -> int:
    """The num_batch of a model that has none: 512 to 4096 tokens of context, 1024 to 32768, 2048 above.

    It steps down where the scheduler sees too little room, and is 256 or 512 on CUDA without flash attention
    (server/sched.go, automaticGenerationBatch). `total_ctx` counts all sequences.
    """
    cuda = [d for d in devices if d.kind == "cuda"]
    if flash_attn == "off" and cuda:
        small = any(0 < believed_free(d) <= 8 * GIB for d in cuda)
        return 256 if total_ctx > 4096 and small else 512
    batch = 2048 if total_ctx > 32768 else 1024 if total_ctx > 4096 else 512
    while batch > 512 and not _batch_fits(batch, predicted_bytes, available_bytes):
        batch //= 2
    return batch


def _batch_fits(batch: int, predicted: int, available: int) -> bool:
    if predicted == 0 or available == 0:
        return True
    limit = available * ADMIT_PERCENT // 100
    if predicted > limit or predicted > available * _BATCH_HEADROOM_PERCENT[batch] // 100:
        return False
    return _BATCH_SURCHARGE_BYTES[batch] <= limit - predicted


def batch_surcharge_bytes(batch: int) -> int:
    """What the scheduler adds to its prediction for a large batch."""
    return next((extra for size, extra in _BATCH_SURCHARGE_BYTES.items() if batch >= size), 0)


def believed_free(device: Device) -> int:
    """Free memory, or the total where free is unknown or above it, as Ollama takes it."""
    free, total = device.free_bytes, device.total_bytes
    return total if free == 0 or 0 < total < free else free


def available_bytes(devices: Sequence[Device], system: SystemMemory) -> int:
    """Free memory over devices as the scheduler adds it up; integrated ones cannot have more than the host has."""
    shared = sum(d.free_bytes for d in devices if d.integrated)
    discrete = sum(d.free_bytes for d in devices if not d.integrated)
    if 0 < system.free_bytes < shared:
        return discrete + system.free_bytes
    return discrete + shared


def select_devices(
    devices: Sequence[Device],
    predicted_bytes: int,
    options: RunOptions,
    environment: Mapping[str, str],
    system: SystemMemory,
) -> tuple[tuple[Device, ...], int | None]:
    """The devices a load gets, and its main_gpu: one device where 80 % of its free memory is enough, else a group.

    A group is all devices of one library; the best single device and the best group are discrete first, then the
    one with most free memory (server/sched.go, selectLlamaServerPlacement).
    """
    if len(devices) <= 1 or options.num_gpu == 0:
        return tuple(devices), options.main_gpu
    groups: dict[str, list[Device]] = {}
    for device in devices:
        groups.setdefault(device.kind, []).append(device)

    def rank(device: Device) -> tuple[bool, int]:
        return not device.integrated, available_bytes([device], system)

    if options.main_gpu is not None:
        wanted = [g[options.main_gpu] for g in groups.values() if 0 <= options.main_gpu < len(g)]
        if wanted:
            return (max(wanted, key=rank),), 0
        return _best_group(groups, system), options.main_gpu
    if not boolean(environment, "OLLAMA_SCHED_SPREAD") and predicted_bytes > 0:
        enough = [d for d in devices if predicted_bytes <= available_bytes([d], system) * ADMIT_PERCENT // 100]
        if enough:
            # Ollama walks group by group and keeps the first of equals; max does too.
            ordered = [d for g in groups.values() for d in g if d in enough]
            return (max(ordered, key=rank),), 0
    return _best_group(groups, system), options.main_gpu


def _best_group(groups: Mapping[str, list[Device]], system: SystemMemory) -> tuple[Device, ...]:
    def rank(kind: str) -> tuple[bool, int]:
        return any(not d.integrated for d in groups[kind]), available_bytes(groups[kind], system)

    return tuple(groups[max(groups, key=rank)])


def mmap_switched_off(
    model: ModelFacts,
    options: RunOptions,
    devices: Sequence[Device],
    predicted_bytes: int,
    available: int,
    system: SystemMemory,
    *,
    os: str = "linux",
    loaded_mmap_bytes: int = 0,
) -> str | None:
    """Why Ollama starts a load without mmap when nobody chose, or None.

    "cpu": no device; "windows_cuda"; "metal_partial_offload"; "host-pressure": on Linux with discrete devices, less
    free host memory than the file, the other mapped models and a tenth of the total (8 GB at least).
    """
    if options.use_mmap is not None:
        return None
    if options.num_gpu == 0 or not devices or all(d.kind == "cpu" for d in devices):
        return "cpu"
    if os == "windows" and any(d.kind == "cuda" for d in devices):
        return "windows_cuda"
    if any(d.kind == "metal" for d in devices):
        if 0 < options.num_gpu < model.layers and model.block_count > 0:
            return "metal_partial_offload"
        if options.num_gpu < 0 and predicted_bytes > available > 0:
            return "metal_partial_offload"
    if os != "linux" or not model.file_bytes or not system.free_bytes or any(d.integrated for d in devices):
        return None
    if not available or not predicted_bytes or predicted_bytes > available * ADMIT_PERCENT // 100:
        return None
    headroom = max(_DECIMAL_8_GB, system.total_bytes // 10)
    return "host-pressure" if system.free_bytes < model.file_bytes + loaded_mmap_bytes + headroom else None
