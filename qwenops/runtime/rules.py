"""Ollama's rules of scheduling and defaults, as pure functions: what a load will be before it is started.

Sources, all Ollama v0.32.14 unless said: server/sched.go (load, selectLlamaServerPlacement,
automaticGenerationBatch, availableMemoryForLoad), server/routes.go (Serve, modelOptions), llm/server.go
(NewLlamaServer), llm/llama_server.go (PredictServerVRAM, LlamaServerFlashAttention, shouldDisableMMProjOffload),
ml/device.go (FlashAttentionSupported); llama.cpp b10434 for KV types (common/arg.cpp) and what they ask of flash
attention (src/llama-context.cpp). Sizes in bytes. `environment` is always the server's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwenops.machine.types import Device
from qwenops.runtime.envconfig import switch, unsigned, var
from qwenops.runtime.facts import ModelFacts, RunOptions
from qwenops.runtime.fit_target import fit_target_bytes, projector_requirement_bytes
from qwenops.runtime.placement import (
    ADMIT_PERCENT,
    SystemMemory,
    available_bytes,
    batch_surcharge_bytes,
    believed_free,
    default_num_batch,
    mmap_switched_off,
    select_devices,
)
from qwenops.units import GIB

if TYPE_CHECKING:
    from qwenops.runtime.types import FlashAttention

__all__ = [
    "Admission",
    "ServerLoad",
    "SystemMemory",
    "admission",
    "default_num_batch",
    "default_num_ctx",
    "fit_target_bytes",
    "flash_attention",
    "kv_cache_problem",
    "kv_cache_type",
    "num_ctx_in_force",
    "parallel_in_force",
    "predicted_vram_bytes",
    "projector_goes_to_cpu",
    "resolve_load",
    "select_devices",
]

# server/sched.go, load: these families always run with one sequence, whatever OLLAMA_NUM_PARALLEL says.
ONE_SEQUENCE_FAMILIES = frozenset(
    {
        "mllama",
        "qwen3vl",
        "qwen3vlmoe",
        "qwen35",
        "qwen35moe",
        "qwen3next",
        "lfm2",
        "lfm2moe",
        "nemotron_h",
        "nemotron_h_moe",
        "nemotron_h_omni",
    }
)
# server/sched.go, supportsContextShift.
NO_CONTEXT_SHIFT_FAMILY = "deepseek2"
VISION_MIN_CTX = 2048
EMBEDDING_BATCH = 2048
# common/arg.cpp, kv_cache_types.
KV_CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
_PLAIN_KV_TYPES = frozenset({"f32", "f16", "bf16"})


@dataclass(frozen=True)
class ServerLoad:
    """A load as Ollama will start it. `num_ctx` is per sequence; `projector_on_cpu` says why, or is None.

    `kv_type` is empty where OLLAMA_KV_CACHE_TYPE is not set (llama-server then takes f16); `batch` is None where
    nothing is passed. `num_ctx_auto` means Ollama would retry a failed load with less context.
    """

    num_ctx: int
    parallel: int
    batch: int | None
    devices: tuple[Device, ...]
    main_gpu: int | None
    use_mmap: bool | None
    flash_attn: FlashAttention
    kv_type: str
    projector_on_cpu: str | None
    fit_target_bytes: tuple[int, ...]
    predicted_bytes: int
    context_shift: bool
    num_ctx_auto: bool

    @property
    def total_ctx(self) -> int:
        """What llama-server gets as -c."""
        return self.num_ctx * self.parallel


@dataclass(frozen=True)
class Admission:
    """Whether the scheduler lets a model in beside those already loaded, and by which figures."""

    admitted: bool
    predicted_bytes: int
    limit_bytes: int
    why: str


def default_num_ctx(devices: Sequence[Device], environment: Mapping[str, str]) -> int:
    """The num_ctx of a model that has none: OLLAMA_CONTEXT_LENGTH, else 4096, 32768 or 262144 by total VRAM.

    The steps are at 23 and 47 GiB over all devices, less OLLAMA_GPU_OVERHEAD on each (server/routes.go, Serve).
    """
    asked = unsigned(environment, "OLLAMA_CONTEXT_LENGTH")
    if asked:
        return asked
    overhead = unsigned(environment, "OLLAMA_GPU_OVERHEAD")
    # Ollama subtracts in 64 bits without sign: an overhead above a device's memory wraps round there, and so here.
    total = sum((d.total_bytes - overhead) % 2**64 for d in devices) % 2**64
    return 262144 if total >= 47 * GIB else 32768 if total >= 23 * GIB else 4096


def num_ctx_in_force(
    model: ModelFacts, num_ctx: int | None, devices: Sequence[Device], environment: Mapping[str, str]
) -> int:
    """Tokens a sequence gets: at least 4, at least 2048 with vision, and never more than the model was trained on."""
    wanted = num_ctx if num_ctx is not None else default_num_ctx(devices, environment)
    wanted = max(wanted, 4)
    if model.vision:
        wanted = max(wanted, VISION_MIN_CTX)
    return min(wanted, model.train_ctx) if model.train_ctx > 0 else wanted


def parallel_in_force(model: ModelFacts, environment: Mapping[str, str]) -> int:
    """Sequences a model serves at once: OLLAMA_NUM_PARALLEL, or one for embedding models and some families."""
    if model.pooling or model.family in ONE_SEQUENCE_FAMILIES:
        return 1
    return max(unsigned(environment, "OLLAMA_NUM_PARALLEL", 1), 1)


def kv_cache_type(environment: Mapping[str, str]) -> str:
    """OLLAMA_KV_CACHE_TYPE as it is passed on, in lower case; empty where it is not set (f16 then)."""
    return var(environment, "OLLAMA_KV_CACHE_TYPE").lower()


def kv_cache_problem(kv_type: str, flash_attn: FlashAttention) -> str | None:
    """Why llama-server will not start with a KV type, or None. A quantized V asks for flash attention."""
    if kv_type and kv_type not in KV_CACHE_TYPES:
        return f"{kv_type!r} is no KV cache type; one of {', '.join(KV_CACHE_TYPES)} is"
    if kv_type and kv_type not in _PLAIN_KV_TYPES and flash_attn == "off":
        return f"KV type {kv_type} needs flash attention, and it is off"
    return None


def flash_attention(devices: Sequence[Device], environment: Mapping[str, str]) -> FlashAttention:
    """What is passed as --flash-attn: OLLAMA_FLASH_ATTENTION where set, "off" where a device cannot, else "auto"."""
    chosen = switch(environment, "OLLAMA_FLASH_ATTENTION")
    if chosen is not None:
        return "on" if chosen else "off"
    return "auto" if all(_can_flash(d) for d in devices) else "off"


def _can_flash(device: Device) -> bool:
    """CUDA from compute 6.0, except 7.2; a card whose capability nobody told us is taken for a newer one."""
    if device.kind != "cuda" or device.compute_capability is None:
        return True
    return device.compute_capability >= (6, 0) and device.compute_capability != (7, 2)


def predicted_vram_bytes(model: ModelFacts, total_ctx: int) -> int:
    """What the scheduler believes a load takes: the file and dense f16 KV of every layer, no projector.

    The real need plays no part in it (llm/llama_server.go, PredictServerVRAM).
    """
    head_dim = model.embedding_length // model.head_count_max if model.head_count_max > 0 else 0
    kv_heads = model.head_count_kv_min or 1
    return model.file_bytes + 2 * model.block_count * kv_heads * head_dim * total_ctx * 2


def projector_goes_to_cpu(
    model: ModelFacts, num_gpu: int, devices: Sequence[Device], *, after_out_of_memory: bool = False
) -> str | None:
    """Why the projector will be kept on the CPU, in Ollama's own word, or None when it goes to the GPU.

    "cpu-only": num_gpu is 0; "partial-text-offload": num_gpu is below the model's layers (output included);
    "limited-vram": a device has less free than the projector's weights and 1 GiB; "startup-oom-retry": the first
    start ran out of memory (llm/llama_server.go, shouldDisableMMProjOffload).
    """
    if model.projector_path is None:
        return None
    if after_out_of_memory:
        return "startup-oom-retry"
    if num_gpu == 0:
        return "cpu-only"
    if 0 < num_gpu < model.layers:
        return "partial-text-offload"
    required = projector_requirement_bytes(model.projector_bytes)
    if any(0 < believed_free(d) < required for d in devices):
        return "limited-vram"
    return None


def resolve_load(
    model: ModelFacts,
    options: RunOptions,
    environment: Mapping[str, str],
    devices: Sequence[Device],
    *,
    system: SystemMemory | None = None,
    os: str = "linux",
    loaded_mmap_bytes: int = 0,
) -> ServerLoad:
    """Everything that Ollama decides before it starts llama-server for a model.

    `devices` are the server's, with their free memory now (what loaded models hold already taken off).
    """
    system = system or SystemMemory()
    auto_ctx = options.num_ctx is None and not unsigned(environment, "OLLAMA_CONTEXT_LENGTH")
    num_ctx = num_ctx_in_force(model, options.num_ctx, devices, environment)
    parallel = parallel_in_force(model, environment)
    predicted = predicted_vram_bytes(model, num_ctx * parallel)
    seen = tuple(devices) if options.num_gpu != 0 else ()
    chosen, main_gpu = select_devices(seen, predicted, options, environment, system)
    placed = _placement(chosen, main_gpu)
    available = available_bytes(placed, system)
    attention = flash_attention(chosen, environment)
    batch = options.num_batch
    if batch is None:
        batch = (
            min(EMBEDDING_BATCH, max(options.num_ctx or default_num_ctx(devices, environment), 1))
            if model.pooling
            else default_num_batch(num_ctx * parallel, predicted, available, attention, chosen)
        )
    if model.pooling:
        batch = min(batch, num_ctx * parallel)
    off = mmap_switched_off(
        model,
        options,
        chosen,
        predicted,
        available,
        system,
        os=os,
        loaded_mmap_bytes=loaded_mmap_bytes,
    )
    on_cpu = projector_goes_to_cpu(model, options.num_gpu, chosen)
    return ServerLoad(
        num_ctx=num_ctx,
        parallel=parallel,
        batch=batch if batch > 0 else None,
        devices=chosen,
        main_gpu=main_gpu,
        use_mmap=False if off else options.use_mmap,
        flash_attn=attention,
        kv_type=kv_cache_type(environment),
        projector_on_cpu=on_cpu,
        fit_target_bytes=fit_target_bytes(
            model.projector_bytes if model.projector_path and on_cpu is None else 0,
            environment,
            devices=len(chosen),
        ),
        predicted_bytes=predicted,
        context_shift=_shifts(model, options),
        num_ctx_auto=auto_ctx,
    )


def _placement(devices: tuple[Device, ...], main_gpu: int | None) -> tuple[Device, ...]:
    if main_gpu is not None and 0 <= main_gpu < len(devices):
        return (devices[main_gpu],)
    return devices


def _shifts(model: ModelFacts, options: RunOptions) -> bool:
    if options.shift is not None:
        return options.shift
    return NO_CONTEXT_SHIFT_FAMILY not in (model.family, *model.families)


def admission(
    model: ModelFacts,
    options: RunOptions,
    environment: Mapping[str, str],
    devices: Sequence[Device],
    *,
    loaded_models: int,
    system: SystemMemory | None = None,
) -> Admission:
    """Whether a model would be started beside the loaded ones, or one of those would be unloaded first.

    The first model is always let in, and so is one whose num_gpu asks for part of its layers. A second is let in
    when the prediction is at most 80 % of the free memory, and the count is below OLLAMA_MAX_LOADED_MODELS (three
    a device where not set).
    """
    system = system or SystemMemory()
    load = resolve_load(model, options, environment, devices, system=system)
    extra = 0 if model.pooling or load.batch is None else batch_surcharge_bytes(load.batch)
    predicted = load.predicted_bytes + extra
    limit = available_bytes(_placement(load.devices, load.main_gpu), system) * ADMIT_PERCENT // 100
    most = unsigned(environment, "OLLAMA_MAX_LOADED_MODELS") or 3 * max(len(devices), 1)

    def answer(admitted: bool, why: str) -> Admission:
        return Admission(admitted, predicted, limit, why)

    if loaded_models >= most:
        return answer(False, f"{loaded_models} models are loaded and {most} is the most")
    if loaded_models == 0:
        return answer(True, "no other model is loaded")
    if not load.devices:
        return answer(True, "it runs on the CPU")
    if 0 < options.num_gpu < model.layers:
        return answer(True, "num_gpu asks for part of the layers")
    if predicted > limit:
        return answer(False, "the prediction is above 80 % of the free memory")
    return answer(True, "the prediction is within 80 % of the free memory")
