"""Rung 3: llama-cpp-python loads the model without memory and says what each buffer would take.

Exact for the devices that the library was built for, and for the host. A library without a backend for the devices
that are asked about still knows weights, cache and state as a whole: these are spread over the devices as the closed
form places them, and compute stays the closed form's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qwenops.errors import BadInput, PartMissing
from qwenops.machine.types import Device, Host
from qwenops.memory.closed_form import closed_form
from qwenops.memory.dry_load_parts import exact_need, read_said, spread_need
from qwenops.memory.ghost import make_ghost
from qwenops.memory.quants import kv_type_number
from qwenops.memory.types import LoadSettings, Need
from qwenops.model.types import Model
from qwenops.worker import run

LIMIT_S = 120.0
CHILD = "qwenops.memory.dry_load_child:dry_load"
# So that the last words of an abort are its reason, and not a debugger's.
CHILD_ENVIRONMENT = {"GGML_NO_BACKTRACE": "1"}


def dry_load(
    model: Model,
    settings: LoadSettings,
    devices: Sequence[Device],
    *,
    host: Host | None = None,
    reserve_bytes: Mapping[str, int] | None = None,
    limit_s: float = LIMIT_S,
) -> Need:
    """What `model` needs under one choice of settings; see dry_loads."""
    (answer,) = dry_loads(model, (settings,), devices, host=host, reserve_bytes=reserve_bytes, limit_s=limit_s)
    return answer


def dry_loads(
    model: Model,
    settings: Sequence[LoadSettings],
    devices: Sequence[Device],
    *,
    host: Host | None = None,
    reserve_bytes: Mapping[str, int] | None = None,
    limit_s: float = LIMIT_S,
) -> tuple[Need, ...]:
    """What `model` needs under each of many settings: one child, one load, one context for each.

    Sizes in bytes; `sources` names who said each part. The projector, its encoder, what lies outside every buffer and
    the choice of layers with "auto" are the closed form's. Raises PartMissing where llama-cpp-python is missing, too
    old or refuses the model, BadInput for settings with which nothing loads, ChildDied when the library aborts.
    """
    if model.inline_vision:
        raise PartMissing(f"{model.source} carries its vision tensors inside, as only Ollama's own server reads them")
    if any(one.n_cpu_moe for one in settings):
        raise PartMissing("llama-cpp-python cannot be told which experts stay on the host")
    if any(one.draft_tokens for one in settings):
        raise PartMissing("llama-cpp-python has no context for a draft head")
    splits = {one.tensor_split for one in settings}
    if len(splits) > 1:
        raise BadInput("one dry load has one split over the devices", do="ask about each split by itself")
    formulas = [closed_form(model, one, tuple(devices), host, reserve_bytes=reserve_bytes) for one in settings]
    with make_ghost(model, Path(tempfile.gettempdir())) as ghost:
        request = {
            "file": str(ghost.model),
            "name": model.path.name,
            "devices": _asked_devices(devices),
            "shares": [*next(iter(splits), ())][: len(devices)] or [float(d.free_bytes) for d in devices],
            "contexts": [_context(one, f.layers.on_device) for one, f in zip(settings, formulas, strict=True)],
        }
        answer = run(CHILD, request, limit_s=limit_s, env=CHILD_ENVIRONMENT)
    here, version = bool(answer["has_devices"]), str(answer["version"])
    needs = []
    for one, formula, load in zip(settings, formulas, answer["loads"], strict=True):
        said = read_said(load)
        if here:
            _check_placeable(model, one)
            needs.append(exact_need(formula, said, version))
        else:
            needs.append(spread_need(formula, said, closed_form(model, one, (), host).host, version))
    return tuple(needs)


def is_exact(need: Need) -> bool:
    """Whether the library has a backend for every device: compute, the part that differs by backend, is its own."""
    return need.sources["compute"] == "dry load"


def _asked_devices(devices: Sequence[Device]) -> list[dict[str, str]]:
    """Devices as the library may know them; hardware that was only described is under no name of its own."""
    return [
        {
            "name": d.name if d.source != "--gpu" else "",
            "description": d.description if d.source in ("nvml", "runtime") else "",
        }
        for d in devices
    ]


def _context(settings: LoadSettings, gpu_layers: int) -> dict[str, Any]:
    return {
        "gpu_layers": gpu_layers,
        "n_ctx": settings.num_ctx * settings.parallel,
        "n_batch": settings.batch,
        "n_ubatch": settings.ubatch,
        "n_seq_max": settings.parallel,
        "n_outputs_max": settings.parallel if settings.outputs == "server" else 0,
        "type_k": kv_type_number(settings.kv_type_k),
        "type_v": kv_type_number(settings.kv_type_v),
        "flash_attn": settings.flash_attn,
        "swa_full": settings.swa_full,
        "kv_unified": settings.kv_unified,
    }


def _check_placeable(model: Model, settings: LoadSettings) -> None:
    if settings.gpu_layers == "auto" and any("_exps." in t.name for t in model.header.tensors):
        raise PartMissing(
            "a library does not choose which experts stay on the host, as the runtime's fit does",
            do="--gpu-layers with a number",
        )
