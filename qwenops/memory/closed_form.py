"""The closed form: what a load needs, from the header alone, in milliseconds and without native code.

The rung for hardware that is not here, and the check for the rungs that ask a runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qwenops.machine.types import Device, Host
from qwenops.memory.backends import Backend, backend_of, host_backend
from qwenops.memory.band import band_of
from qwenops.memory.compute import Compute, compute_bytes
from qwenops.memory.kv import kv_bytes
from qwenops.memory.placement import Placement, place
from qwenops.memory.shape import Shape, shape_of
from qwenops.memory.state import state_bytes
from qwenops.memory.types import DeviceNeed, HostNeed, Layers, LoadSettings, Need
from qwenops.memory.weights import place_weights
from qwenops.model.types import Model


@dataclass(frozen=True)
class TextNeed:
    """What the text model takes on each backend (the CPU last)."""

    weights: tuple[int, ...]
    kv: tuple[int, ...]
    state: tuple[int, ...]
    compute: Compute


def closed_form(
    model: Model,
    settings: LoadSettings,
    devices: tuple[Device, ...],
    host: Host | None = None,
    *,
    reserve_bytes: Mapping[str, int] | None = None,
) -> Need:
    """What `model` needs under `settings` on `devices`, each component from its formula.

    Sizes in bytes. `reserve_bytes` is what the runtime keeps free on a device (its fit target), by device name; it
    decides how many layers "auto" places. `host` is not needed for any figure yet and may be left out.
    """
    reserve = reserve_bytes or {}
    shape = shape_of(model)
    backends = [backend_of(d) for d in devices]
    backends.append(host_backend(backends[0] if backends else None))
    placement = _placement(model, shape, settings, devices, backends, reserve)
    text = text_need(model, shape, settings, placement, backends)
    needs = tuple(
        DeviceNeed(
            name=d.name,
            kind=d.kind,
            free_bytes=d.free_bytes,
            reserve_bytes=reserve.get(d.name, 0),
            weights_bytes=text.weights[i],
            kv_bytes=text.kv[i],
            state_bytes=text.state[i],
            compute_bytes=text.compute.bytes_by_backend[i],
        )
        for i, d in enumerate(devices)
    )
    host_need = HostNeed(
        weights_bytes=text.weights[-1],
        kv_bytes=text.kv[-1],
        state_bytes=text.state[-1],
        compute_bytes=text.compute.bytes_by_backend[-1],
        output_bytes=4 * shape.vocabulary * settings.parallel,
    )
    total = sum(n.total_bytes for n in needs)
    components = ("weights", "kv", "state", "compute", "projector", "encoder", "overhead")
    return Need(
        rung="closed form",
        settings=settings,
        devices=needs,
        host=host_need,
        layers=Layers(placement.on_device, shape.layers + 1),
        band=band_of(total, shape.architecture, devices),
        sources=dict.fromkeys(components, "closed form"),
        flash_attn=text.compute.flash,
    )


def text_need(
    model: Model, shape: Shape, settings: LoadSettings, placement: Placement, backends: Sequence[Backend]
) -> TextNeed:
    """Weights, cache, state and compute of the text model for one placement."""
    weights = place_weights(model.header, shape, placement, backends)
    return TextNeed(
        weights.bytes_by_backend,
        kv_bytes(shape, settings, placement, backends),
        state_bytes(shape, settings, placement, backends),
        compute_bytes(shape, settings, placement, weights, backends),
    )


def _placement(
    model: Model,
    shape: Shape,
    settings: LoadSettings,
    devices: Sequence[Device],
    backends: Sequence[Backend],
    reserve: Mapping[str, int],
) -> Placement:
    total = shape.layers + 1
    if settings.gpu_layers == "all" or settings.gpu_layers == "auto":
        return place(shape.layers, total, devices)
    return place(shape.layers, settings.gpu_layers, devices)
