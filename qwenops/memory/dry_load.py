"""Rung 3: llama-cpp-python loads the model without memory and says what each buffer would take.

Exact for the devices that the library was built for, and for the host. A library without a backend for the devices
that are asked about still knows weights, cache and state as a whole: these are spread over the devices as the closed
form places them, and compute stays the closed form's.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qwenops.errors import PartMissing
from qwenops.machine.types import Device, Host
from qwenops.memory.closed_form import closed_form
from qwenops.memory.ghost import make_ghost
from qwenops.memory.probe_log import LoadLines, parse_load_log
from qwenops.memory.quants import kv_type_number
from qwenops.memory.types import Band, DeviceNeed, HostNeed, LoadSettings, Need, Rung
from qwenops.model.types import Model
from qwenops.units import MIB
from qwenops.worker import run

LIMIT_S = 120.0
CHILD = "qwenops.memory.dry_load_child:dry_load"
# So that the last words of an abort are its reason, and not a debugger's.
CHILD_ENVIRONMENT = {"GGML_NO_BACKTRACE": "1"}
_CACHE = re.compile(r"llama_(kv_cache|memory_recurrent)\S*: size =\s*([\d.]+) MiB \(")
# A logged size is rounded to a hundredth of a MiB; twice that is the most by which the same figure may differ.
_ROUNDING = MIB // 50
_EXACT_SLACK = MIB // 16
_ASKED = ("weights", "kv", "state", "compute")


@dataclass(frozen=True)
class _Parts:
    """What one place holds, in bytes; weights and context are None where the library does not say them of one place.

    `context` is cache and state together; `state` is its part as logged, to a hundredth of a MiB.
    """

    weights: int | None
    context: int | None
    state: int
    compute: int


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
        raise PartMissing(f"{model.path} carries its vision tensors inside, as only Ollama's own server reads them")
    formulas = [closed_form(model, one, tuple(devices), host, reserve_bytes=reserve_bytes) for one in settings]
    with make_ghost(model, Path(tempfile.gettempdir())) as ghost:
        request = {
            "file": str(ghost.model),
            "name": model.path.name,
            "devices": _asked_devices(devices),
            "shares": [float(d.free_bytes) for d in devices],
            "contexts": [_context(one, f.layers.on_device) for one, f in zip(settings, formulas, strict=True)],
        }
        answer = run(CHILD, request, limit_s=limit_s, env=CHILD_ENVIRONMENT)
    here = bool(answer["has_devices"])
    needs = []
    for one, formula, load in zip(settings, formulas, answer["loads"], strict=True):
        lines = parse_load_log("\n".join(load["log"]))
        totals = _cache_totals(load["log"])
        places = _places(load["breakdown"], lines, totals)
        if here:
            _check_placeable(model, one)
            needs.append(_exact(formula, places, lines, totals, answer["version"]))
        else:
            on_host = closed_form(model, one, (), host).host
            needs.append(_spread(formula, places.get(None), totals, on_host, answer["version"]))
    return tuple(needs)


def is_exact(need: Need) -> bool:
    """Whether every part of the text model was said by the library itself."""
    return all(need.sources[part] == "dry load" for part in _ASKED)


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
    }


def _check_placeable(model: Model, settings: LoadSettings) -> None:
    if settings.gpu_layers == "auto" and any("_exps." in t.name for t in model.header.tensors):
        raise PartMissing(
            "a library does not choose which experts stay on the host, as the runtime's fit does",
            do="--gpu-layers with a number",
        )


# --- what the library said


def _cache_totals(log: Sequence[str]) -> dict[str, int]:
    """The caches' own totals: of all places together, and right without memory too."""
    totals = {"kv": 0, "state": 0}
    for line in log:
        if match := _CACHE.search(line):
            totals["kv" if match[1] == "kv_cache" else "state"] += round(float(match[2]) * MIB)
    return totals


def _places(
    breakdown: Sequence[Mapping[str, Any]] | None, lines: LoadLines, totals: Mapping[str, int]
) -> dict[str | None, _Parts]:
    """By device (None is the host) what it holds: from the breakdown where the log bears it out, else from the log."""
    names = (None, *dict.fromkeys(b.device for b in lines.buffers if not b.on_host))
    state = {n: lines.host_bytes("RS") if n is None else lines.device_bytes(n, "RS") for n in names}
    compute = {n: lines.host_bytes("compute") if n is None else lines.device_bytes(n, "compute") for n in names}
    if breakdown is None or not _borne_out(breakdown, sum(totals.values()), sum(compute.values())):
        return {n: _Parts(None, None, state[n], compute[n]) for n in names}
    sums: dict[str | None, list[int]] = {}
    for row in breakdown:
        place = sums.setdefault(row["device"], [0, 0, 0])
        for i, part in enumerate(("model", "context", "compute")):
            place[i] += row[part]
    return {
        name: _Parts(weights, context, state.get(name, 0), computed)
        for name, (weights, context, computed) in sums.items()
    }


def _borne_out(breakdown: Sequence[Mapping[str, Any]], context: int, compute: int) -> bool:
    slack = _ROUNDING * (len(breakdown) + 2)
    logged = {"context": context, "compute": compute}
    return all(abs(sum(int(row[part]) for row in breakdown) - total) <= slack for part, total in logged.items())


# --- from there to a need


def _exact(
    formula: Need,
    places: Mapping[str | None, _Parts],
    lines: LoadLines,
    totals: Mapping[str, int],
    version: str,
) -> Need:
    """The library has a backend for every device: each part is its own, or the whole of it spread by the formula."""
    kv_by_formula = formula.host.kv_bytes + sum(d.kv_bytes for d in formula.devices)

    def filled(name: str | None, known: DeviceNeed | HostNeed) -> dict[str, Any]:
        said = places.get(name, _Parts(0, 0, 0, 0))
        # The log rounds; the formula is the finer figure where both agree.
        state = known.state_bytes if abs(known.state_bytes - said.state) <= _ROUNDING else said.state
        if said.context is None:
            kv = _scaled(known.kv_bytes, totals["kv"], kv_by_formula)
        elif totals["kv"]:
            kv = max(0, said.context - state)
        else:
            kv, state = 0, said.context
        return {
            "weights_bytes": known.weights_bytes if said.weights is None else said.weights,
            "kv_bytes": kv,
            "state_bytes": state,
            "compute_bytes": said.compute,
        }

    devices = tuple(replace(d, **filled(d.name, d)) for d in formula.devices)
    host = replace(formula.host, **filled(None, formula.host), output_bytes=_output(formula.host, lines))
    sources = _sources(formula, *_ASKED)
    if any(p.weights is None for p in places.values()):
        sources["weights"] = "closed form"
    return replace(
        formula,
        rung="dry load",
        devices=devices,
        host=host,
        band=_band(devices, formula),
        sources=sources,
        notes=(*formula.notes, f"loaded without memory by llama-cpp-python {version}"),
        flash_attn=formula.flash_attn if lines.flash_attn is None else lines.flash_attn,
    )


def _spread(formula: Need, said: _Parts | None, totals: Mapping[str, int], on_host: HostNeed, version: str) -> Need:
    """The library has no backend for the devices: its totals, spread as the formula spreads its own."""
    weights = said.weights if said is not None else None
    shares = {
        "weights_bytes": (on_host.weights_bytes if weights is None else weights, on_host.weights_bytes),
        "kv_bytes": (totals["kv"], on_host.kv_bytes),
        "state_bytes": (totals["state"], on_host.state_bytes),
    }
    # Totals in the log are rounded: where the formula rounds to the same figure it is the finer one.
    ratio = {name: (1, 1) if abs(a - b) <= _ROUNDING else (a, b) for name, (a, b) in shares.items()}

    def filled(known: DeviceNeed | HostNeed) -> dict[str, Any]:
        return {name: _scaled(getattr(known, name), *of) for name, of in ratio.items()}

    devices = tuple(replace(d, **filled(d)) for d in formula.devices)
    more = sum(d.total_bytes for d in devices) - formula.total_device_bytes
    asked = ("weights", "kv", "state") if weights is not None else ("kv", "state")
    return replace(
        formula,
        rung="dry load",
        devices=devices,
        host=replace(formula.host, **filled(formula.host)),
        band=Band(max(0, formula.band.low + more), formula.band.high + more),
        sources=_sources(formula, *asked),
        notes=(
            *formula.notes,
            f"llama-cpp-python {version} has no backend for {formula.devices[0].name}: its sizes are spread over the "
            "devices as the formula places them, and compute is the formula's",
        ),
    )


def _sources(formula: Need, *asked: str) -> dict[str, Rung]:
    return {**formula.sources, **dict.fromkeys(asked, "dry load")}


def _band(devices: Sequence[DeviceNeed], formula: Need) -> Band:
    """Exact for the library's own build; where a server will load the model its build may be another one, and the
    band reaches as far as the formula's, which is made for the server's."""
    total = sum(d.total_bytes for d in devices)
    slack = len(devices) * _EXACT_SLACK + sum(d.encoder_bytes for d in devices) * 3 // 100
    low, high = max(0, total - slack), total + slack
    if formula.settings.outputs == "server":
        low, high = min(low, formula.band.low), max(high, formula.band.high)
    return Band(low, high)


def _scaled(part: int, total: int, known_total: int) -> int:
    return part * total // known_total if known_total else 0


def _output(host: HostNeed, lines: LoadLines) -> int:
    """The buffer of the logits; the log rounds it, and the formula is the finer figure where both agree."""
    logged = lines.host_bytes("output") + sum(lines.device_bytes(d, "output") for d in lines.devices)
    return host.output_bytes if not logged or abs(logged - host.output_bytes) <= _ROUNDING else logged
