"""What the doctor looks at in the registered models: context for images, spills, CPU loads, changed files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from qwenops.setup.findings import Check, Finding, Patient
from qwenops.setup.recipe import known_recipes, stale
from qwenops.setup.registered import RegisteredModel, load_settings, registered_models
from qwenops.units import human

# One full-size image and its two markers: llama.cpp's cap for the Qwen projectors is 4096 tokens.
FULL_IMAGE_TOKENS = 4098


def context_for_images(patient: Patient) -> Iterator[Finding]:
    """Vision models whose num_ctx cannot hold one full-size picture."""
    from qwenops.memory.reserve import facts_of
    from qwenops.runtime.rules import num_ctx_in_force

    runtime = patient.runtime
    small: list[tuple[RegisteredModel, int]] = []
    for one in registered_models(runtime):
        if not (one.model.projector or one.model.inline_vision):
            continue
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
            do=tuple(f"qwenops update {one.name} --for ocr" for one, _ in small),
        )


def spills(patient: Patient) -> Iterator[Finding]:
    """Models that fit, and that the runtime's reserve would split over GPU and CPU all the same."""
    from qwenops import history
    from qwenops.memory import ladder
    from qwenops.memory.learned import learn
    from qwenops.memory.reserve import devices_in_use, fit_reserve, warmup_saving
    from qwenops.plan.fit import judge
    from qwenops.plan.types import Choice

    runtime, host = patient.runtime, patient.machine.host
    if not runtime.devices:
        return
    with history.open() as kept:
        learned = learn(kept, runtime)
    planned = known_recipes(runtime)
    for one in registered_models(runtime):
        if "num_gpu" in one.params:
            continue
        settings = replace(load_settings(one, runtime), gpu_layers="all")
        devices = devices_in_use(one.model, settings, runtime.devices, host, runtime.environment)
        reserve = fit_reserve(one.model, settings, devices, runtime.environment)
        need = ladder.need(
            one.model,
            settings,
            devices,
            host=host,
            runtime=runtime,
            rung="closed form",
            reserve_bytes=reserve,
            learned=learned,
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
                do=(f"qwenops update {one.name}" + ("" if one.name in planned else " --for chat"),),
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


def stale_plans(patient: Patient) -> Iterator[Finding]:
    """Models whose plan was made for another card, driver or Ollama."""
    from qwenops.ollama.models import list_models

    recipes = known_recipes(patient.runtime)
    there = {model.name for model in list_models(patient.runtime)} if recipes else set()
    for name in sorted(recipes.keys() & there):
        reasons = stale(recipes[name], patient.machine, patient.runtime)
        if reasons:
            yield Finding(
                "advice",
                "plan-stale",
                f"the plan of {name} is stale",
                expected="made for this machine and this Ollama",
                observed="; ".join(reasons),
                evidence="what was kept when it was made",
                do=(f"qwenops update {name}",),
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
            elif file.state == "hidden":
                yield Finding(
                    "advice",
                    "file-hidden",
                    f"{model.name}: the file it was linked from is no longer there",
                    expected=f"{file.source} with the data of {file.digest[:19]}",
                    observed=file.why,
                    evidence=str(file.blob),
                    do=("nothing, if you meant to remove it: the store's link keeps the data",),
                )
    if listed and all(m.state in {"ok", "hidden", "unknown"} for m in listed):
        yield Finding(
            "ok",
            "files",
            f"{len(listed)} model{'s' * (len(listed) != 1)} in the store, every file is what its digest says",
        )


CHECKS: tuple[Check, ...] = (context_for_images, spills, loaded_on_cpu, stale_plans, changed_files)
