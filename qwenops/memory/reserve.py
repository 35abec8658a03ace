"""What the runtime keeps free beside a load, and on which devices it puts the load: Ollama's rules, for a Model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qwenops.errors import BadInput
from qwenops.machine.types import Device, Host
from qwenops.memory.remember import ByIdentity
from qwenops.memory.types import DeviceNeed, LoadSettings
from qwenops.model.types import Model
from qwenops.runtime.facts import ModelFacts, RunOptions, model_facts
from qwenops.runtime.rules import SystemMemory, fit_target_bytes, predicted_vram_bytes, select_devices

INLINE_PREFIXES = ("v.", "mm.", "a.")


def facts_of(model: Model) -> ModelFacts:
    """The model as Ollama's rules see it: plain tensor bytes for the projector, file bytes for the model."""
    return _facts_of(model)


def _read(model: Model) -> ModelFacts:
    inline = sum(t.size_bytes for t in model.header.tensors if t.name.startswith(INLINE_PREFIXES))
    return model_facts(
        str(model.path),
        model.header.metadata,
        file_bytes=model.file_bytes,
        projector_path=str(model.projector.path) if model.projector else None,
        projector_bytes=model.projector.header.tensor_bytes if model.projector else 0,
        inline_vision_bytes=inline,
        has_mtp_tensors=any(".nextn." in t.name for t in model.header.tensors),
    )


_facts_of = ByIdentity(_read)  # a search asks for every setting


def devices_in_use(
    model: Model, settings: LoadSettings, devices: Sequence[Device], host: Host | None, environment: Mapping[str, str]
) -> tuple[Device, ...]:
    """The devices that Ollama's scheduler gives to this load: one where it believes one is enough, else a group."""
    if settings.main_gpu is not None and len(devices) > 1:
        if not 0 <= settings.main_gpu < len(devices):
            raise BadInput(
                f"there is no device {settings.main_gpu}: the last of {len(devices)} is {len(devices) - 1}",
                do="--main-gpu with the number of a device, from 0 on",
            )
        return (devices[settings.main_gpu],)
    if len(devices) <= 1 or settings.gpu_layers == 0:
        return tuple(devices)
    system = SystemMemory(host.total_bytes, host.available_bytes) if host else SystemMemory()
    predicted = predicted_vram_bytes(facts_of(model), settings.num_ctx * settings.parallel)
    chosen, main_gpu = select_devices(devices, predicted, RunOptions(), environment, system)
    if main_gpu is not None and 0 <= main_gpu < len(chosen):
        return (chosen[main_gpu],)
    return tuple(chosen)


def fit_reserve(
    model: Model, settings: LoadSettings, devices: Sequence[Device], environment: Mapping[str, str]
) -> dict[str, int]:
    """Bytes that llama-server's fit keeps free on each device, by the device's name.

    With a projector on a device that is its weights and 1 GiB, else 1 GiB, unless LLAMA_ARG_FIT_TARGET says otherwise.
    """
    on_device = settings.projector_device == "gpu" and settings.gpu_layers != 0
    projector_bytes = facts_of(model).projector_bytes if on_device else 0
    targets = fit_target_bytes(projector_bytes, environment, devices=len(devices))
    return {device.name: target for device, target in zip(devices, targets, strict=True)}


def warmup_saving(model: Model, settings: LoadSettings, device: DeviceNeed) -> int:
    """By how much the planned encoder memory exceeds what the runtime's fit counts: its warm-up image is smaller."""
    if not device.encoder_bytes or model.projector is None:
        return 0
    from qwenops.memory.encoder import encoder_warmup_bytes

    return max(0, device.encoder_bytes - encoder_warmup_bytes(model.projector, flash_attn=settings.flash_attn != "off"))
