"""From one trial of llama-server's fit to the parts of a need: weights, KV, state, compute, projector, encoder.

The table rounds every figure down to whole MiB. At verbosity 5 the same trial also prints compute, output and
recurrent-state buffers and the size of every cache exactly, and which device each layer is on; weights are then the
sum of the header's tensors on that device, believed only when it rounds down to the table's figure. What cannot be
confirmed stays the table's figure plus half a MiB, so no part is off by a whole MiB.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from qwenops.memory.buffer_lines import BufferKind
from qwenops.memory.fit_log import Cache, FitLog, FitPass, MemoryRow
from qwenops.memory.reserve import INLINE_PREFIXES
from qwenops.memory.types import HostNeed
from qwenops.model.types import Header, Model, Tensor
from qwenops.units import MIB, pad

HALF_MIB = MIB // 2
# Buffers start at a multiple of this on every backend that runs Qwen (CUDA 128, Vulkan up to 256, Metal 32).
_TENSOR_ALIGNMENT = 128
_BLOCK = re.compile(r"^blk\.(\d+)\.")
_EXPERTS = re.compile(r"\.ffn_(up|down|gate_up|gate)_(ch|)exps")
_HEAD = re.compile(r"^output\.")
_INPUT = re.compile(r"^(token_embd|per_layer_token_embd|position_embd|token_types)\b")


@dataclass(frozen=True)
class DeviceParts:
    """What the text model takes on one device, in bytes, and what the fit's own figures for it were."""

    name: str
    free_bytes: int
    weights_bytes: int
    kv_bytes: int
    state_bytes: int
    compute_bytes: int
    draft_bytes: int
    exact: bool


@dataclass(frozen=True)
class ProjectorParts:
    """The projector as the fit counted it: weights, and the encoder's compute at the warm-up size."""

    device: str | None
    weights_bytes: int
    encoder_bytes: int
    host_encoder_bytes: int


def device_parts(
    model: Model, fit: FitLog, chosen: FitPass, host_experts: frozenset[int] = frozenset()
) -> tuple[DeviceParts, ...]:
    """The text model's parts on every device, in the runtime's order.

    `host_experts` are the blocks whose experts were asked to stay on the host.
    """
    return tuple(_on_device(model, fit, chosen, row, host_experts) for row in chosen.devices)


def host_parts(model: Model, chosen: FitPass) -> HostNeed:
    """What stays on the host: every row that is no device, the weights of the repacked copies included."""
    rows = [r for r in chosen.rows if r.free_bytes is None]
    context = sum(r.context_bytes for r in rows)
    state = _buffers(chosen, "RS", None)
    kv = _cache_share(chosen, None)
    if not _agrees(kv + state, context):
        kv = max(0, _middle(context) - state)
    compute = _buffers(chosen, "compute", None)
    return HostNeed(
        weights_bytes=sum(_middle(r.model_bytes) for r in rows),
        kv_bytes=kv,
        state_bytes=state,
        compute_bytes=compute or sum(_middle(r.compute_bytes) for r in rows),
        output_bytes=_buffers(chosen, "output", None),
    )


def draft_on_host(fit: FitLog, *, apart: bool) -> int:
    """What a draft takes of the host, where the fit itself counts only devices; one in a file `apart` has weights."""
    if fit.draft is None:
        return 0
    weights = sum(_middle(r.model_bytes) for r in fit.draft.rows if r.free_bytes is None) if apart else 0
    mine = [b for b in fit.draft.buffers if b.on_host and not b.of_projector and b.kind in ("compute", "output")]
    return weights + sum(b.size_bytes for b in mine) + _cache_share(fit.draft, None)


def projector_parts(header: Header, fit: FitLog) -> ProjectorParts | None:
    """Split the fit's figure for the projector; None when it gave none. Weights are plain tensor bytes there."""
    if fit.mmproj_bytes is None:
        return None
    weights = header.tensor_bytes
    on_device = {name: size for name, size in fit.mmproj_shares.items() if name != "CPU"}
    device, share = next(iter(on_device.items()), (None, 0))
    if device is None:
        return ProjectorParts(None, weights, 0, max(0, fit.mmproj_bytes - weights))
    return ProjectorParts(device, weights, max(0, share - weights), max(0, fit.mmproj_bytes - share))


def _on_device(model: Model, fit: FitLog, chosen: FitPass, row: MemoryRow, host_experts: frozenset[int]) -> DeviceParts:
    weights = _weights(model, chosen, row, host_experts, drafting=fit.draft is not None)
    state = _buffers(chosen, "RS", row.name)
    kv = _cache_share(chosen, row.name)
    context_known = _agrees(kv + state, row.context_bytes)
    if not context_known:
        kv = max(0, _middle(row.context_bytes) - state)
    compute = _buffers(chosen, "compute", row.name)
    compute_known = _agrees(compute, row.compute_bytes)
    return DeviceParts(
        name=row.name,
        free_bytes=row.free_bytes or 0,
        weights_bytes=weights if weights is not None else _middle(row.model_bytes),
        kv_bytes=kv,
        state_bytes=state,
        compute_bytes=compute if compute_known else _middle(row.compute_bytes),
        draft_bytes=fit.draft_shares.get(row.name, 0),
        exact=weights is not None and context_known and compute_known,
    )


def _middle(rounded_down: int) -> int:
    """The figure between which and its neighbours the truth lies; nothing stays nothing."""
    return rounded_down + HALF_MIB if rounded_down else 0


def _agrees(exact: int, rounded_down: int) -> bool:
    # The exact lines are themselves rounded to a hundredth of a MiB.
    slack = MIB // 50
    return rounded_down - slack <= exact < rounded_down + MIB + slack


def _buffers(chosen: FitPass, kind: BufferKind, device: str | None) -> int:
    return sum(
        b.size_bytes
        for b in chosen.buffers
        if b.kind == kind and (b.on_host if device is None else not b.on_host and b.device == device)
    )


def _cache_share(chosen: FitPass, device: str | None) -> int:
    """A device's part of the KV caches (None: the host's). Caches are uniform over their layers in nearly every
    architecture; where they are not, the table does not agree and the caller takes the table's figure."""
    return sum(round(c.size_bytes * _layer_share(c, device)) for c in chosen.caches if c.kind == "KV")


def _layer_share(cache: Cache, device: str | None) -> float:
    if not cache.layer_devices:
        return 0.0
    here = sum(1 for _, name in cache.layer_devices if (name == "CPU" if device is None else name == device))
    return here / len(cache.layer_devices)


def _weights(
    model: Model, chosen: FitPass, row: MemoryRow, host_experts: frozenset[int], *, drafting: bool
) -> int | None:
    """The tensors on a device, summed, if one way of placing them rounds down to the table's figure."""
    layers = {layer for layer, name in chosen.layer_devices if name == row.name}
    if not layers:
        return 0 if row.model_bytes == 0 else None
    # Vision tensors inside the model's own file (as in Ollama's library) are the projector's, not the text model's.
    tensors = [t for t in model.header.tensors if not t.name.startswith(INLINE_PREFIXES)]
    if not drafting:
        layers -= {int(m[1]) for t in tensors if ".nextn." in t.name and (m := _BLOCK.match(t.name))}
    repeating = [
        t
        for t in tensors
        if (m := _BLOCK.match(t.name))
        and int(m[1]) in layers
        and not (int(m[1]) in host_experts and _EXPERTS.search(t.name))
    ]
    has_output = max(layer for layer, _ in chosen.layer_devices) in layers
    others = [t for t in tensors if has_output and not _BLOCK.match(t.name) and not _INPUT.match(t.name)]
    tied = not any(_HEAD.match(t.name) for t in tensors)
    copied = [t for t in tensors if has_output and tied and t.name == "token_embd.weight"]
    without_head = [t for t in others if not _HEAD.match(t.name)]
    dense = [t for t in repeating if not _EXPERTS.search(t.name)]
    ways = (
        repeating + others + copied,  # the usual placement; a tied head is copied
        repeating + without_head,  # a device that cannot multiply by a head of this size leaves it on the host
        dense + others + copied,  # experts kept on the host
        dense + without_head,
    )
    return next((size for size in map(_padded_bytes, ways) if _agrees(size, row.model_bytes)), None)


def _padded_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(pad(t.size_bytes, _TENSOR_ALIGNMENT) for t in tensors)
