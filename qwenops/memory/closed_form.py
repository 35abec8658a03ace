"""The closed form: what a load needs, from the header alone, in milliseconds and without native code.

The rung for hardware that is not here, and the check for the rungs that ask a runtime. Weights, cache and state are
sums over the file's own dimensions; compute buffers come from a replay of the runtime's graph and allocator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from qwenops.errors import BadInput
from qwenops.machine.types import Device, Host
from qwenops.memory.backends import Backend, backend_of, encoder_host_backend, host_backend
from qwenops.memory.band import band_of
from qwenops.memory.compute import Compute, compute_bytes, copies_of_inputs
from qwenops.memory.draft import (
    REPLAYED,
    draft_cache_bytes,
    draft_compute_bytes,
    drafts,
    is_drafted_for,
    with_kept_states,
)
from qwenops.memory.encoder import KNOWN_KINDS, WARMUP_TOKENS, Encoder, encoder_of
from qwenops.memory.fit import Fit
from qwenops.memory.graphs import KNOWN
from qwenops.memory.inline import inline_projector
from qwenops.memory.kv import kv_bytes, largest_cache_tensor_bytes
from qwenops.memory.overhead import overhead_bytes
from qwenops.memory.placement import Placement, place, placed_as_asked
from qwenops.memory.quants import BLOCK, is_quantized, kv_type_number
from qwenops.memory.remember import ByIdentity
from qwenops.memory.shape import Shape, shape_of
from qwenops.memory.state import state_bytes
from qwenops.memory.types import DeviceNeed, HostNeed, Layers, LoadSettings, Need
from qwenops.memory.weights import Weights, place_weights
from qwenops.model.types import Model, Projector
from qwenops.units import human

_shape_of = ByIdentity(shape_of)
COMPONENTS = ("weights", "kv", "state", "compute", "projector", "encoder", "overhead")


@dataclass(frozen=True)
class TextNeed:
    """What the text model takes on each backend (the CPU last)."""

    weights: tuple[int, ...]
    kv: tuple[int, ...]
    state: tuple[int, ...]
    compute: Compute
    draft: tuple[int, ...]

    @property
    def totals(self) -> tuple[int, ...]:
        """The sum on each backend, without what a draft's context takes."""
        parts = (self.weights, self.kv, self.state, self.compute.bytes_by_backend)
        return tuple(sum(p) for p in zip(*parts, strict=True))


def closed_form(
    model: Model,
    settings: LoadSettings,
    devices: tuple[Device, ...],
    host: Host | None = None,
    *,
    reserve_bytes: Mapping[str, int] | None = None,
) -> Need:
    """What `model` needs under `settings` on `devices`, each component from its formula.

    Sizes in bytes. `reserve_bytes` is what the runtime keeps free on a device (its fit target), by device name; with
    "auto" it decides how many layers are placed. `host` changes no figure. The projector goes to the first device.
    Raises BadInput for settings with which the runtime refuses to load.
    """
    shape = _shape_of(model)
    _check(shape, settings)
    reserve = reserve_bytes or {}
    backends = [backend_of(d) for d in devices]
    backends.append(host_backend(backends[0] if backends else None))
    projector = model.projector or inline_projector(model)
    vision = _vision(projector, settings, backends, settings.image_tokens)
    placement = _placement(model, shape, settings, devices, backends, reserve, projector)
    text = _with_draft_model(text_need(model, shape, settings, placement, backends), settings, devices, backends)
    on_device = vision is not None and bool(devices) and settings.projector_device == "gpu"
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
            projector_bytes=vision.weights_bytes if vision and on_device and i == 0 else 0,
            encoder_bytes=vision.device_bytes if vision and on_device and i == 0 else 0,
            draft_bytes=text.draft[i],
            overhead_bytes=overhead_bytes(d),
        )
        for i, d in enumerate(devices)
    )
    host_need = HostNeed(
        weights_bytes=text.weights[-1],
        kv_bytes=text.kv[-1],
        state_bytes=text.state[-1],
        compute_bytes=text.compute.bytes_by_backend[-1],
        projector_bytes=vision.weights_bytes if vision and not on_device else 0,
        encoder_bytes=vision.host_bytes if vision else 0,
        output_bytes=_output_bytes(shape, settings),
        draft_bytes=text.draft[-1],
    )
    return Need(
        rung="closed form",
        settings=settings,
        devices=needs,
        host=host_need,
        layers=Layers(placement.on_device, shape.layers + 1),
        band=band_of(sum(n.total_bytes for n in needs), shape.architecture, projector, devices),
        sources={
            **dict.fromkeys((*COMPONENTS, *(("draft",) if any(text.draft) else ())), "closed form"),
            "overhead": "default",
        },
        notes=_notes(shape, settings, placement, backends, projector),
        flash_attn=text.compute.flash,
    )


def text_need(
    model: Model,
    shape: Shape,
    settings: LoadSettings,
    placement: Placement,
    backends: Sequence[Backend],
    *,
    rehearsal: bool = False,
) -> TextNeed:
    """Weights, cache, state and compute of the text model for one placement; `rehearsal` as in compute_bytes."""
    drafting = drafts(shape, settings)
    if drafting:
        placement = replace(placement, draft_head=True)
    weights: Weights = place_weights(model.header, shape, placement, backends)
    compute = compute_bytes(shape, settings, placement, weights, backends, rehearsal=rehearsal)
    return TextNeed(
        weights.bytes_by_backend,
        kv_bytes(shape, settings, placement, backends),
        state_bytes(shape, with_kept_states(shape, settings), placement, backends),
        compute,
        _draft(shape, settings, placement, weights, backends, compute, pinned=not rehearsal)
        if drafting and not settings.draft_model
        else (0,) * len(backends),
    )


def _draft(
    shape: Shape,
    settings: LoadSettings,
    placement: Placement,
    weights: Weights,
    backends: Sequence[Backend],
    main: Compute,
    *,
    pinned: bool,
) -> tuple[int, ...]:
    """Cache, compute and output of the context in which the model's own head drafts."""
    cache = draft_cache_bytes(shape, settings, placement, backends)
    copies = copies_of_inputs(placement, backends)
    compute = draft_compute_bytes(
        shape, settings, placement, weights, backends, flash=main.flash, copies=copies, pinned=pinned
    )
    output = (*(0 for _ in backends[:-1]), _output_bytes(shape, settings))
    return tuple(map(sum, zip(cache, compute or main.bytes_by_backend, output, strict=True)))


def _with_draft_model(
    text: TextNeed, settings: LoadSettings, devices: Sequence[Device], backends: Sequence[Backend]
) -> TextNeed:
    if not settings.draft_model:
        return text
    from qwenops.memory.draft_model import draft_model, draft_model_bytes

    draft = draft_model(settings)
    if draft is None:
        return text
    beside = draft_model_bytes(draft, settings, devices, backends, main=text.compute, pinned=True)
    return replace(text, draft=tuple(map(sum, zip(text.draft, beside, strict=True))))


def _check(shape: Shape, settings: LoadSettings) -> None:
    """Refuse what llama_init_from_model refuses (src/llama-context.cpp)."""
    if settings.flash_attn == "off" and is_quantized(kv_type_number(settings.kv_type_v)):
        raise BadInput(
            f"a V cache of type {settings.kv_type_v} needs flash attention, which is off",
            do="turn flash attention on, or take f16 for the cache",
        )
    for which, kv_type, head in (
        ("K", settings.kv_type_k, shape.head_k),
        ("V", settings.kv_type_v, shape.head_v),
    ):
        block = BLOCK[kv_type_number(kv_type)]
        if head % block:
            raise BadInput(
                f"a {which} cache of type {kv_type} has blocks of {block}, which do not divide heads of {head}",
                do="take f16 for the cache",
            )
    if min(settings.num_ctx, settings.parallel, settings.batch, settings.ubatch) < 1:
        raise BadInput("context, parallel, batch and ubatch must be at least 1", do="give positive numbers")


def _output_bytes(shape: Shape, settings: LoadSettings) -> int:
    """A row of logits for each sequence, and of an embedding server a vector as well (output_reserve)."""
    embeds = shape.pooling is not None and settings.outputs == "server"
    return 4 * settings.parallel * (shape.vocabulary + (shape.embedding if embeds else 0))


def _vision(
    projector: Projector | None, settings: LoadSettings, backends: Sequence[Backend], tokens: int
) -> Encoder | None:
    if projector is None:
        return None
    on_device = settings.projector_device == "gpu" and len(backends) > 1
    backend = backends[0] if on_device else encoder_host_backend()
    return encoder_of(projector, tokens, flash_attn=settings.flash_attn != "off", backend=backend)


def _placement(
    model: Model,
    shape: Shape,
    settings: LoadSettings,
    devices: Sequence[Device],
    backends: Sequence[Backend],
    reserve: Mapping[str, int],
    projector: Projector | None,
) -> Placement:
    asked = placed_as_asked(shape.layers, settings, devices)
    if asked is not None:
        return asked
    targets = [d.free_bytes - reserve.get(d.name, 0) for d in devices]
    warm = _vision(projector, settings, backends, WARMUP_TOKENS)
    if warm is not None and settings.projector_device == "gpu":
        # the runtime adds the projector, with the encoder at its load size, to what must stay free
        targets[0] -= warm.weights_bytes + warm.device_bytes
    if is_drafted_for(shape, settings):
        # so does it with a draft's context, which it measures with every layer on the devices
        full = text_need(model, shape, settings, place(shape.layers, shape.layers + 1, devices), backends)
        full = _with_draft_model(full, settings, devices, backends)
        targets = [target - draft for target, draft in zip(targets, full.draft[:-1], strict=True)]
    return Fit(
        shape.layers,
        devices,
        targets,
        mixture=shape.experts > 0,
        draft_blocks=shape.layers - shape.trunk_layers,
        measure=lambda placed: text_need(model, shape, settings, placed, backends, rehearsal=True).totals[:-1],
    ).placement()


def _notes(
    shape: Shape,
    settings: LoadSettings,
    placement: Placement,
    backends: Sequence[Backend],
    projector: Projector | None,
) -> tuple[str, ...]:
    notes = []
    for number, backend in enumerate(backends):
        largest = largest_cache_tensor_bytes(shape, settings, placement, number)
        if largest > backend.max_tensor_bytes:
            notes.append(
                f"a block's cache is {human(largest)} in one piece and {backend.name} takes "
                f"{human(backend.max_tensor_bytes)}: the runtime aborts; take less context or a smaller cache type"
            )
    if shape.architecture not in KNOWN:
        notes.append(
            f"the graph of {shape.architecture or 'this architecture'} is not replayed in full: weights and cache are "
            "exact, the compute buffer is a guess"
        )
    if projector is not None and projector.kind not in KNOWN_KINDS:
        notes.append(f"the encoder of {projector.kind or 'this projector'} is not replayed: its compute is a guess")
    if settings.draft_tokens and not is_drafted_for(shape, settings):
        notes.append("the file has no draft head: nothing is drafted")
    elif settings.draft_tokens and settings.draft_model:
        from qwenops.memory.draft_model import draft_model, is_replayed

        draft = draft_model(settings)
        if draft is not None and not is_replayed(draft):
            notes.append(f"a draft model of the kind {draft.architecture} is not replayed: its compute is a guess")
    elif settings.draft_tokens and shape.architecture not in REPLAYED:
        notes.append(f"the draft head of {shape.architecture} is not replayed: its compute is a guess")
    kept_back = [b for b in placement.host_experts if placement.backends[b] != placement.cpu]
    if kept_back and shape.experts:
        notes.append(f"the experts of {len(kept_back)} blocks stay on the host")
    return tuple(notes)
