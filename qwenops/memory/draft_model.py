"""A draft model in a file of its own (a Modelfile's DRAFT): what it takes beside the model.

llama-server loads it whole, every layer on the devices, and makes one context for it with the model's context, batch
and sequences and a cache of f16 (common_base_params_to_speculative, common/speculative.cpp; llama.cpp b10434).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from qwenops.machine.types import Device
from qwenops.memory.backends import Backend
from qwenops.memory.compute import Compute, compute_bytes, copies_of_inputs
from qwenops.memory.draft import REPLAYED, draft_cache_bytes, draft_compute_bytes
from qwenops.memory.kv import kv_bytes
from qwenops.memory.placement import place
from qwenops.memory.shape import shape_of
from qwenops.memory.types import LoadSettings
from qwenops.memory.weights import place_weights
from qwenops.model.types import Model

DFLASH = "dflash"


def draft_model(settings: LoadSettings) -> Model | None:
    """The draft model of these settings, its header read once. Raises what reading a model raises."""
    if not settings.draft_model or not settings.draft_tokens:
        return None
    state = Path(settings.draft_model).stat()
    return _read(settings.draft_model, state.st_size, state.st_mtime_ns)


def is_replayed(draft: Model) -> bool:
    """Whether its compute buffers are replayed, not guessed: a head alone, of a family whose head is known."""
    shape = shape_of(draft)
    return draft.architecture in REPLAYED and shape.trunk_layers < shape.layers


def draft_model_bytes(
    draft: Model,
    settings: LoadSettings,
    devices: Sequence[Device],
    backends: Sequence[Backend],
    *,
    main: Compute,
    pinned: bool,
) -> tuple[int, ...]:
    """Weights, cache, compute and output of a draft model by backend, in bytes.

    `main` is the model's own compute, which says whether attention is fused.
    """
    shape = shape_of(draft)
    placement = place(shape.layers, shape.layers + 1, devices, shares=settings.tensor_split)
    placement = replace(placement, draft_head=True)
    weights = place_weights(draft.header, shape, placement, backends)
    own = replace(settings, kv_type_k="f16", kv_type_v="f16", draft_tokens=0, draft_model="", n_cpu_moe=0)
    if is_replayed(draft):
        cache = draft_cache_bytes(shape, own, placement, backends)
        copies = copies_of_inputs(placement, backends)
        compute = draft_compute_bytes(
            shape, own, placement, weights, backends, flash=main.flash, copies=copies, pinned=pinned
        )
    else:
        cache = kv_bytes(shape, own, placement, backends)
        compute = compute_bytes(shape, own, placement, weights, backends, rehearsal=not pinned).bytes_by_backend
    output = (*(0 for _ in backends[:-1]), 4 * shape.vocabulary * settings.parallel)
    parts = (weights.bytes_by_backend, cache, compute or main.bytes_by_backend, output)
    return tuple(map(sum, zip(*parts, strict=True)))


@lru_cache(maxsize=8)
def _read(path: str, size: int, changed_ns: int) -> Model:
    from qwenops.model.read import read_model

    return read_model(path, mmproj=None)
