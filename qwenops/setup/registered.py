"""A registered model read back from the store: its files, its parameters, and what it will need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwenops.errors import QwenopsError
from qwenops.machine.types import Machine
from qwenops.memory.types import LoadSettings, Need
from qwenops.model.image_tokens import MAX_TOKENS
from qwenops.model.types import Model
from qwenops.plan.ground import Ground, ground
from qwenops.runtime.flags import image_cap
from qwenops.runtime.names import checked_name
from qwenops.runtime.store import DRAFT, Manifest, blob_path, list_manifests, read_params
from qwenops.runtime.types import Runtime, Store


@dataclass(frozen=True)
class RegisteredModel:
    """A model of the store with the header of its blobs and its parameters."""

    name: str
    model: Model
    params: Mapping[str, Any]
    draft: Path | None = None


def registered_models(runtime: Runtime) -> Iterator[RegisteredModel]:
    """Every model of the store whose files can be read from here."""
    if runtime.store is None:
        return
    for manifest in list_manifests(runtime.store).manifests:
        found = _read(runtime.store, manifest)
        if found:
            yield found


def registered_model(name: str, runtime: Runtime) -> RegisteredModel | None:
    """One registered model, or None where the store cannot be read or has none of that name."""
    wanted = checked_name(name).folded
    if runtime.store is None:
        return None
    manifests = list_manifests(runtime.store).manifests
    manifest = next((m for m in manifests if m.name.folded == wanted), None)
    return _read(runtime.store, manifest) if manifest else None


def load_settings(one: RegisteredModel, runtime: Runtime) -> LoadSettings:
    """The settings under which the server will load it: its parameters, the server's environment, Ollama's rules."""
    from qwenops.memory.reserve import facts_of
    from qwenops.runtime.facts import RunOptions
    from qwenops.runtime.offload import offload_in_force
    from qwenops.runtime.rules import resolve_load

    options = RunOptions.from_params(one.params)
    load = resolve_load(facts_of(one.model), options, runtime.environment, runtime.devices)
    kv: Any = load.kv_type or "f16"
    layers: Any = "auto" if options.num_gpu < 0 else options.num_gpu
    if not runtime.devices:
        layers = 0
    elif options.num_gpu >= facts_of(one.model).layers:
        layers = "all"
    offload = offload_in_force(runtime.environment)
    return LoadSettings(
        num_ctx=load.num_ctx,
        parallel=load.parallel,
        batch=load.batch or 2048,
        ubatch=load.batch or 512,
        kv_type_k=kv,
        kv_type_v=kv,
        flash_attn=load.flash_attn,
        gpu_layers=layers,
        image_tokens=image_cap(runtime.environment) or MAX_TOKENS,
        projector_device="cpu" if load.projector_on_cpu else "gpu",
        n_cpu_moe=offload.n_cpu_moe,
        tensor_split=offload.tensor_split,
        main_gpu=offload.main_gpu if options.main_gpu is None else options.main_gpu,
        kv_unified=offload.kv_unified,
        draft_tokens=max(_drafted(one, options.draft_num_predict), 0),
        draft_model=str(one.draft or ""),
    )


def _drafted(one: RegisteredModel, asked: int | None) -> int:
    """Tokens drafted ahead: as asked, else 4 with a draft model and none with a head alone (server/routes.go)."""
    from qwenops.runtime.facts import DRAFTED_BY_A_MODEL

    return asked if asked is not None else DRAFTED_BY_A_MODEL if one.draft else 0


def need_of_registered(name: str, runtime: Runtime, machine: Machine) -> tuple[Model | None, Need | None]:
    """The model's files and what its load will need by the best rung; None where its files cannot be read."""
    one = registered_model(name, runtime)
    return (one.model, need_of(one, runtime, machine)) if one else (None, None)


def need_of(one: RegisteredModel, runtime: Runtime, machine: Machine, *, rung: str = "auto") -> Need:
    """What a registered model's load will need, on the devices that the server would use, by the rung that is asked."""
    from qwenops import history
    from qwenops.memory import ladder
    from qwenops.memory.learned import learn
    from qwenops.memory.reserve import devices_in_use, fit_reserve

    base = ground(machine, runtime)
    settings = load_settings(one, runtime)
    devices = devices_in_use(one.model, settings, base.devices, base.host, base.environment)
    with history.open() as kept:
        learned = learn(kept, runtime)
    return ladder.need(
        one.model,
        settings,
        devices,
        host=base.host,
        runtime=runtime,
        rung=rung,
        reserve_bytes=fit_reserve(one.model, settings, devices, base.environment),
        learned=learned,
    )


def formula_beside(model: Model, need: Need, base: Ground) -> tuple[Need, ...]:
    """The closed form's answer to the same question, to be kept beside a higher rung's: a load judges both."""
    from qwenops.memory import ladder

    if need.rung == "closed form":
        return ()
    names = {d.name for d in need.devices}
    devices = tuple(d for d in base.devices if d.name in names)
    with contextlib.suppress(QwenopsError):
        return (ladder.need(model, need.settings, devices, host=base.host, runtime=base.runtime, rung="closed form"),)
    return ()


def _read(store: Store, manifest: Manifest) -> RegisteredModel | None:
    from qwenops.model.stored import stored_model

    try:
        model = stored_model(store, manifest)
        if model is None:
            return None
        drafts = manifest.of(DRAFT)
        draft = blob_path(store, drafts[0].digest) if drafts else None
        return RegisteredModel(manifest.name.short, model, read_params(store, manifest), draft)
    except (QwenopsError, OSError):
        return None
