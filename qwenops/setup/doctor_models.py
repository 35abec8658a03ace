"""What the doctor looks at in the registered models: context for images, spills, CPU loads, changed files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qwenops.errors import QwenopsError
from qwenops.memory.types import LoadSettings
from qwenops.model.types import Model
from qwenops.runtime.store import MODEL, PROJECTOR, Manifest, blob_path, list_manifests, read_params
from qwenops.setup.doctor import Check, Finding, Patient
from qwenops.units import human

# One full-size image and its two markers: llama.cpp's cap for the Qwen projectors is 4096 tokens.
FULL_IMAGE_TOKENS = 4098


@dataclass(frozen=True)
class _Registered:
    name: str
    params: Mapping[str, Any]
    model: Model


def context_for_images(patient: Patient) -> Iterator[Finding]:
    """Vision models whose num_ctx cannot hold one full-size picture."""
    from qwenops.memory.reserve import facts_of
    from qwenops.runtime.rules import num_ctx_in_force

    runtime = patient.runtime
    small: list[tuple[_Registered, int]] = []
    for one in _vision_models(patient):
        num_ctx = num_ctx_in_force(facts_of(one.model), one.params.get("num_ctx"), runtime.devices, runtime.environment)
        if num_ctx < FULL_IMAGE_TOKENS:
            small.append((one, num_ctx))
    if small:
        names = ", ".join(one.name for one, _ in small)
        first, num_ctx = small[0]
        read_from = "PARAMETER num_ctx" if "num_ctx" in first.params else "the default of this server"
        yield Finding(
            "problem",
            "context-too-small",
            f"vision models run with num_ctx {num_ctx}, too small for one full page ({FULL_IMAGE_TOKENS} tokens)",
            expected=f"at least 8192 for {names}",
            observed=f"{num_ctx} ({read_from})",
            evidence="the model's parameters in the store",
            do=(f"qwenops up {first.model.path} --for ocr",),
        )


def spills(patient: Patient) -> Iterator[Finding]:
    """Models that fit, and that the runtime's reserve would split over GPU and CPU all the same."""
    from qwenops.memory import ladder
    from qwenops.memory.reserve import devices_in_use, facts_of, fit_reserve, warmup_saving
    from qwenops.plan.fit import judge
    from qwenops.plan.types import Choice
    from qwenops.runtime.rules import kv_cache_type, num_ctx_in_force

    runtime, host = patient.runtime, patient.machine.host
    if not runtime.devices:
        return
    for one in _registered(patient):
        if "num_gpu" in one.params:
            continue
        num_ctx = num_ctx_in_force(facts_of(one.model), one.params.get("num_ctx"), runtime.devices, runtime.environment)
        batch = int(one.params.get("num_batch") or 512)
        kv: Any = kv_cache_type(runtime.environment) or "f16"
        settings = LoadSettings(num_ctx=num_ctx, batch=batch, ubatch=batch, kv_type_k=kv, kv_type_v=kv)
        devices = devices_in_use(one.model, settings, runtime.devices, host, runtime.environment)
        reserve = fit_reserve(one.model, settings, devices, runtime.environment)
        need = ladder.need(
            one.model, settings, devices, host=host, runtime=runtime, rung="closed form", reserve_bytes=reserve
        )
        judged = judge(
            Choice(one.model, settings, images=0),
            need,
            host=host,
            warmup_saving=lambda d, m=one.model, s=settings: warmup_saving(m, s, d),  # type: ignore[misc]
        )
        if judged.fits == "yes" and not judged.runtime_keeps_all:
            yield Finding(
                "advice",
                "fit-target",
                f"{one.name} fits, but Ollama keeps {human(max(reserve.values()))} free and moves layers to the CPU",
                expected=f"{human(need.total_device_bytes)} on the device, all {need.layers.total} layers",
                observed="no num_gpu in its parameters",
                evidence="formula over its header, and Ollama's own fit target",
                do=(f"qwenops up {one.model.path} --name {one.name}",),
            )


def loaded_on_cpu(patient: Patient) -> Iterator[Finding]:
    """Models that are loaded now without a byte on the device."""
    runtime = patient.runtime
    for loaded in runtime.loaded if runtime.devices else ():
        if loaded.size_vram_bytes == 0:
            yield Finding(
                "problem",
                "on-cpu",
                f"{loaded.name} runs on the CPU",
                expected=f"on {runtime.devices[0].description}",
                observed="size_vram 0",
                evidence=f"{runtime.url}/api/ps",
                do=(f"qwenops verify {loaded.name}",),
            )


def changed_files(patient: Patient) -> Iterator[Finding]:
    """Blobs that are no longer what their digest says, or that are gone."""
    from qwenops.ollama.models import list_models

    if patient.runtime.store is None:
        return
    listed = list_models(patient.runtime)
    for model in listed:
        for file in model.files:
            if file.state in {"changed", "missing", "unreadable"}:
                yield Finding(
                    "problem",
                    f"file-{file.state}",
                    f"{model.name}: a weights file is {file.state}",
                    expected=f"the data of {file.digest[:19]}",
                    observed=file.why,
                    evidence=str(file.blob or file.source),
                    do=(f"qwenops remove {model.name}", "and register it again from a file that is whole"),
                )
    if listed and all(m.state in {"ok", "unknown"} for m in listed):
        yield Finding("ok", "files", f"{len(listed)} models, every file is what its digest says")


def _vision_models(patient: Patient) -> Iterator[_Registered]:
    return (one for one in _registered(patient) if one.model.projector or one.model.inline_vision)


def _registered(patient: Patient) -> Iterator[_Registered]:
    """The models whose header can be read in the store."""
    from qwenops.model.read import read_model

    store = patient.runtime.store
    if store is None:
        return
    for manifest in list_manifests(store).manifests:
        models, projectors = _files(manifest, MODEL), _files(manifest, PROJECTOR)
        if len(models) != 1:
            continue
        try:
            model = read_model(blob_path(store, models[0]), blob_path(store, projectors[0]) if projectors else None)
            yield _Registered(manifest.name.short, read_params(store, manifest), model)
        except (QwenopsError, OSError):
            continue


def _files(manifest: Manifest, media_type: str) -> list[str]:
    return [layer.digest for layer in manifest.of(media_type)]


CHECKS: tuple[Check, ...] = (context_for_images, spills, loaded_on_cpu, changed_files)
