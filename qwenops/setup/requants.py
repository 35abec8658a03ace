"""Variants that do not exist yet: one of them in a model's place, and all of them as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from qwenops.errors import BadInput
from qwenops.model.types import Model
from qwenops.plan.types import model_entry
from qwenops.result import Result
from qwenops.setup.given import Given, only_one, variants

if TYPE_CHECKING:
    from qwenops.model.requant import Variant


def in_quant(
    path: Given, models: tuple[Model, ...], quant: str | None, *, imatrix: bool, header_kept: bool
) -> tuple[Model, tuple[str, ...]]:
    """The model in the quant that is asked for, with notes: one that is there, else as llama-quantize would make it.

    Made of the best variant that is there. Its header is written to the cache where `header_kept`, for those who ask a
    runtime about it. Raises BadInput for an unknown type, or where llama-quantize would refuse.
    """
    if quant is None:
        if imatrix:
            raise BadInput("--imatrix says how a quant is made, and none is asked for", do="--quant NAME --imatrix")
        return only_one(path, models), ()
    there = next((m for m in models if m.quant.upper() == quant.strip().upper()), None)
    if there is not None:
        return there, ()
    from qwenops.model.quantizer import Recipe
    from qwenops.model.requant import Requantizer, check_imatrix, keep_header

    quantizer = Requantizer(models[0])
    variant = check_imatrix(quantizer.variant(Recipe(quant, imatrix=imatrix)))
    model = keep_header(variant, models[0]) if header_kept else variant.model
    made_of = f"{model.quant} as llama-quantize would make it of {models[0].path.name}"
    return model, (made_of, *quantizer.notes(variant))


def quants_result(
    path: Given,
    mmproj: Given | None,
    gpus: tuple[str, ...],
    *,
    imatrix: bool = False,
    offline: bool = False,
    **pins: Any,
) -> Result:
    """Every quant that llama-quantize can make of a model ("qwenops.quants/1"), with what of each fits the cards.

    Exit code 1 where cards are named or found and no quant fits any of them.
    """
    from qwenops.machine.detect import detect
    from qwenops.model.requant import Requantizer
    from qwenops.plan.matrix import fits_matrix
    from qwenops.setup.answers import make_wish

    models = variants((path,), mmproj, offline=offline, drawn=True)
    quantizer = Requantizer(models[0])
    made = tuple(quantizer.every_variant(imatrix=imatrix))
    names = list(dict.fromkeys(gpus))
    machines = [detect(name) for name in names] or [detect()]
    cells = fits_matrix([variant.model for variant in made], machines, make_wish(**pins))
    data = {
        "model": model_entry(models[0]),
        "cards": [
            {"name": name, "free_bytes": sum(d.free_bytes for d in m.devices)}
            for name, m in zip(names or ["this machine"], machines, strict=True)
        ],
        "quants": [
            {**_entry(variant, models), "cells": [asdict(cell) for cell in row]}
            for variant, row in zip(made, cells, strict=True)
        ],
    }
    fits = any(cell.num_ctx for row in cells for cell in row)
    return Result("qwenops.quants/1", data, notes=_notes(quantizer.was_quantized, made), exit_code=0 if fits else 1)


def _entry(variant: Variant, models: Sequence[Model]) -> dict[str, Any]:
    model = variant.model
    return {
        "quant": model.quant,
        "file_bytes": model.file_bytes,
        "weights_bytes": model.header.tensor_bytes,
        "bits_per_weight": round(variant.bits_per_weight, 4),
        "imatrix": variant.recipe.imatrix,
        "fallbacks": variant.fallbacks,
        "there": next((m.source for m in models if m.quant == model.quant), None),
    }


def _notes(was_quantized: bool, made: Sequence[Variant]) -> tuple[str, ...]:
    notes = []
    if was_quantized:
        notes.append("sizes as of a quant made from the F16 or BF16 file; one made from this file would lose twice")
    if any(variant.recipe.imatrix for variant in made):
        notes.append("a file made with an importance matrix also names it: some 100 to 400 bytes more than shown")
    return tuple(notes)
