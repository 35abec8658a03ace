"""What Ollama counts of a load: the buffers that its llama-server names in the log, as far as Ollama reads them.

memoryParsingWriter (llm/llama_server.go, Ollama v0.32.14) keeps one figure for each pair of a function that logged and
a device, the last one. So a projector's weights, which are logged in another form, are not in it; its encoder's compute
is, at the size reserved while loading; and of two caches, one for the blocks that see all and one for those that see a
window, the later stands for both. /api/ps shows the sum, and the scheduler takes it off what is free.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwenops.machine.types import Device
from qwenops.memory.backends import backend_of, host_backend
from qwenops.memory.encoder import encoder_warmup_bytes
from qwenops.memory.inline import inline_projector
from qwenops.memory.kv import cache_owners, kv_bytes
from qwenops.memory.placement import place
from qwenops.memory.shape import shape_of
from qwenops.memory.types import Need
from qwenops.model.types import Model


def counted_bytes(model: Model, need: Need, devices: Sequence[Device]) -> dict[str, int]:
    """Bytes that Ollama counts of a load, by device; overhead, projector and a draft model's buffers are in none."""
    caches = _last_cache_bytes(model, need, devices)
    encoder = _encoder_bytes(model, need, devices)
    return {
        d.name: sum(
            (d.weights_bytes, caches.get(d.name, d.kv_bytes), d.state_bytes, d.compute_bytes, encoder.get(d.name, 0))
        )
        for d in need.devices
    }


def _last_cache_bytes(model: Model, need: Need, devices: Sequence[Device]) -> dict[str, int]:
    """The window's cache on each device that has some of it, for a model with two caches."""
    shape = shape_of(model)
    windowed = [block for block in cache_owners(shape) if shape.sliding[block]]
    if not windowed or len(windowed) == len(cache_owners(shape)):
        return {}
    used = [d for d in devices if d.name in {n.name for n in need.devices}]
    backends = [backend_of(d) for d in used]
    backends.append(host_backend(backends[0] if backends else None))
    placement = place(shape.layers, need.layers.on_device, used, shares=need.settings.tensor_split)
    sizes = kv_bytes(shape, need.settings, placement, backends, blocks=windowed)
    return {d.name: size for d, size in zip(used, sizes, strict=False) if size}


def _encoder_bytes(model: Model, need: Need, devices: Sequence[Device]) -> dict[str, int]:
    """The encoder's compute as reserved while loading, on the device that has it."""
    projector = model.projector or inline_projector(model)
    holders = {d.name for d in need.devices if d.encoder_bytes}
    flash = need.settings.flash_attn != "off"
    return {
        d.name: encoder_warmup_bytes(projector, flash_attn=flash, device=d)
        for d in devices
        if projector is not None and d.name in holders
    }
