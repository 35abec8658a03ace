"""Rung 1: what was measured when the same model was loaded before, on this device, by this runtime.

`as_measured` is what a load's log becomes in the history, `measured_need` the way back. The keys say what "the same"
means: model (header and file sizes), settings, runtime build and device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from qwenops.history import History, LoadRow, key_of
from qwenops.machine.types import Device
from qwenops.memory.growth import grown_encoder
from qwenops.memory.inline import inline_projector
from qwenops.memory.load_log import LoadLines
from qwenops.memory.types import Band, DeviceNeed, HostNeed, Layers, LoadSettings, Need, Rung
from qwenops.model.types import Model
from qwenops.runtime.types import Runtime
from qwenops.units import MIB

_COMPONENTS = ("weights", "kv", "state", "compute", "projector", "encoder")


def settings_key(settings: LoadSettings) -> str:
    """The history's key of settings."""
    return key_of(settings.as_key())


def runtime_key(runtime: Runtime) -> str:
    """The history's name of a runtime: Ollama's version and llama-server's build."""
    return f"ollama {runtime.version or '?'} llama-server {runtime.llama_server_build or '?'}"


def device_key(devices: Sequence[Device]) -> str:
    """The history's name of the devices of a load: what they are, not how much of them is free."""
    return "; ".join(f"{d.description or d.name} {d.total_bytes // MIB} MiB" for d in devices) or "cpu"


def as_measured(
    lines: LoadLines,
    *,
    overhead_bytes: Mapping[str, int] | None = None,
    usage: Sequence[Mapping[str, Any]] = (),
    flash_attn: bool | None = None,
) -> dict[str, Any]:
    """A load's buffers as plain JSON values for the history, the encoder at its warm-up size.

    `overhead_bytes` is what the device lost beyond the buffers, by device, where that could be measured; `usage` are
    the figures behind it, to learn from, also those of loads that were disturbed.
    """
    devices = [
        {
            "name": name,
            "weights_bytes": lines.device_bytes(name, "model"),
            "kv_bytes": lines.device_bytes(name, "KV"),
            "state_bytes": lines.device_bytes(name, "RS"),
            "compute_bytes": lines.device_bytes(name, "compute"),
            "projector_bytes": lines.projector_bytes(name),
            "encoder_bytes": lines.device_bytes(name, "compute", projector=True),
            "draft_bytes": lines.draft_bytes(name),
            "overhead_bytes": (overhead_bytes or {}).get(name, 0),
        }
        for name in lines.devices
    ]
    return {
        "devices": devices,
        "host": {
            "weights_bytes": lines.host_bytes("model"),
            "kv_bytes": lines.host_bytes("KV"),
            "state_bytes": lines.host_bytes("RS"),
            "compute_bytes": lines.host_bytes("compute"),
            "output_bytes": lines.host_bytes("output"),
            "encoder_bytes": lines.host_bytes("compute", projector=True),
            "draft_bytes": lines.draft_bytes(None),
        },
        "layers": asdict(lines.layers) if lines.layers else None,
        "flash_attn": lines.flash_attn if flash_attn is None else flash_attn,
        "usage": [dict(entry) for entry in usage],
    }


def measured_need(
    model: Model,
    settings: LoadSettings,
    devices: Sequence[Device],
    runtime: Runtime,
    history: History,
) -> Need | None:
    """The newest measured load of exactly this, as a Need; None when there is none that covers every device."""
    from qwenops.model.read import model_key

    rows = history.measured_loads(model_key(model), settings_key(settings), runtime_key(runtime), device_key(devices))
    for row in reversed(rows):
        if need := _need_of(row, model, settings, devices):
            return need
    return None


def _need_of(row: LoadRow, model: Model, settings: LoadSettings, devices: Sequence[Device]) -> Need | None:
    measured = row.measured or {}
    try:
        by_name = {d["name"]: d for d in measured["devices"]}
        layers = Layers(**measured["layers"])
        if not devices:  # a load's log counts layers as offloaded to the CPU too
            layers = Layers(0, layers.total)
        host = HostNeed(**measured["host"])
        if len(by_name) != len(devices):
            return None
        needs = tuple(
            replace(DeviceNeed(**values), name=d.name, kind=d.kind, free_bytes=d.free_bytes)
            for d, values in zip(devices, _with_place(measured["devices"]), strict=True)
        )
    except (KeyError, TypeError):
        return None
    needs, host = _with_largest_image(needs, host, model, settings, devices)
    total = sum(n.total_bytes for n in needs)
    sources: dict[str, Rung] = dict.fromkeys(_COMPONENTS, "measured")
    if any(n.overhead_bytes for n in needs):
        sources["overhead"] = "measured"
    return Need(
        rung="measured",
        settings=settings,
        devices=needs,
        host=host,
        layers=layers,
        band=Band(max(0, total - MIB // 16), total + MIB // 16),
        sources=sources,
        notes=(f"measured on {row.created:%Y-%m-%d}",),
        flash_attn=measured.get("flash_attn"),
    )


def _with_place(devices: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"kind": "cpu", "free_bytes": 0, **values} for values in devices]


def _with_largest_image(
    needs: tuple[DeviceNeed, ...],
    host: HostNeed,
    model: Model,
    settings: LoadSettings,
    devices: Sequence[Device],
) -> tuple[tuple[DeviceNeed, ...], HostNeed]:
    """A load shows the encoder at its warm-up size: make it as large as the settings' largest image does."""
    projector = model.projector or inline_projector(model)
    if projector is None:
        return needs, host
    at = next((i for i, n in enumerate(needs) if n.projector_bytes or n.encoder_bytes), None)
    on_device, on_host = grown_encoder(
        projector,
        settings.image_tokens,
        devices[at] if at is not None else None,
        warm_device_bytes=needs[at].encoder_bytes if at is not None else 0,
        warm_host_bytes=host.encoder_bytes,
        flash_attn=settings.flash_attn != "off",
    )
    grown = tuple(replace(n, encoder_bytes=on_device) if i == at else n for i, n in enumerate(needs))
    return grown, replace(host, encoder_bytes=on_host)
