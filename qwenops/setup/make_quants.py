"""Quants made of a model that is here: everything that can be refused is refused before the first byte is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwenops.errors import BadInput, NotAllowed, PartMissing
from qwenops.model.imatrix import Weights, check_covers, read_imatrix
from qwenops.model.make_quant import Made, make_quant, types_of
from qwenops.model.quantizer import Recipe, types_that_need_imatrix
from qwenops.model.requant import Requantizer, Variant
from qwenops.model.types import Model
from qwenops.plan.types import model_entry
from qwenops.result import Result
from qwenops.setup.given import Given, must_be_here, only_one, variants
from qwenops.units import human

OnTensor = Callable[[str, int, int], None]
"""Called with the quant that is made, the tensors done and those in all."""
OnCost = Callable[[int, int, Path], None]
"""Called before the work with the bytes that will be written, those that are free, and the folder."""


@dataclass(frozen=True)
class MakeOptions:
    """How quants are made; the names are llama-quantize's. `threads` None means all cores."""

    pure: bool = False
    leave_output: bool = False
    output_type: str | None = None
    embedding_type: str | None = None
    overrides: tuple[tuple[str, str], ...] = ()
    threads: int | None = None
    allow_requantize: bool = False
    replace: bool = False


def make_result(
    given: Given,
    quants: Sequence[str],
    options: MakeOptions,
    *,
    imatrix: Path | None = None,
    folder: Path | None = None,
    dry_run: bool = False,
    offline: bool = False,
    on_tensor: OnTensor | None = None,
    on_cost: OnCost | None = None,
) -> Result:
    """Make quants of a model, or say what they would be ("qwenops.quants-make/1").

    Raises BadInput for a source or a type that cannot be used, an importance matrix that is missing or of another
    model, and files that are there already; PartMissing where the disk does not hold them.
    """
    must_be_here((given,), "quants make")
    source = _source(given, offline=offline)
    weights = read_imatrix(imatrix) if imatrix else None
    made_of = Requantizer(source)
    if made_of.was_quantized and not options.allow_requantize and not dry_run:
        raise BadInput(
            f"{source.path.name} is quantized already ({source.quant}): a quant of it loses twice",
            do=("give the F16, BF16 or F32 file", "--allow-requantize     (all the same)"),
        )
    planned = _planned(made_of, quants, options, weights)
    where = folder or source.path.parent
    targets = [where / variant.model.path.name for variant in planned]
    total = sum(variant.model.file_bytes for variant in planned)
    free = _room(where)
    if not dry_run:
        _check_targets(source, where, targets, replace=options.replace)
        if total > free:
            raise PartMissing(
                f"the {len(planned)} files take {human(total)}, and {human(free)} are free at {where}",
                do=("fewer quants at once", "-o /another/disk"),
            )
        if on_cost:
            on_cost(total, free, where)
    rows, notes = [], list(_notes(made_of, planned))
    for variant, target in zip(planned, targets, strict=True):
        made = None if dry_run else _make(variant, source, target, options, imatrix, on_tensor)
        rows.append(_row(variant, target, made))
        notes += [f"{target.name}: the library decided otherwise: {one}" for one in (made.differs if made else ())]
    data = {
        "source": model_entry(source),
        "files": rows,
        "dry_run": dry_run,
        "imatrix": weights.about.file if weights else None,
        "total_bytes": total,
        "free_bytes": free,
        "folder": str(where),
    }
    return Result("qwenops.quants-make/1", data, notes=tuple(notes))


def _make(
    variant: Variant,
    source: Model,
    target: Path,
    options: MakeOptions,
    imatrix: Path | None,
    on_tensor: OnTensor | None,
) -> Made:
    return make_quant(
        variant,
        source,
        target,
        imatrix=imatrix,
        threads=options.threads or 0,
        allow_requantize=options.allow_requantize,
        replace=options.replace,
        on_tensor=(lambda done, of: on_tensor(variant.recipe.quant, done, of)) if on_tensor else None,
    )


def _source(given: Given, *, offline: bool) -> Model:
    """The one model to make quants of. Raises BadInput for a projector and for shards."""
    from qwenops.model.gguf_header import read_header
    from qwenops.model.projector import is_projector
    from qwenops.model.read import read_variants

    if isinstance(given, Path) and given.is_file() and is_projector(read_header(given)):
        raise BadInput(
            f"{given} is a projector: it is small, and pictures are read worse with a smaller one",
            do="give the model's own file; the projector serves all its quants",
        )
    is_here = isinstance(given, Path) and given.exists()
    models = read_variants(given, None) if is_here else variants((given,), None, offline=offline)
    if any(model.remote for model in models):
        must_be_here((str(given),), "quants make")
        raise BadInput(f"quants make needs the file itself, and {given} is a name", do="give a GGUF file")
    source = only_one(given, models)
    if len(source.shards) > 1:
        raise BadInput(
            f"{source.path.name} is one of {len(source.shards)} shards",
            do=f"llama-gguf-split --merge {source.path} merged.gguf",
        )
    return source


def _planned(
    made_of: Requantizer, quants: Sequence[str], options: MakeOptions, weights: Weights | None
) -> tuple[Variant, ...]:
    """Each quant once, as it will be. Raises BadInput where any cannot be made, naming all that lack a matrix."""
    recipes = [
        Recipe(
            quant,
            imatrix=weights is not None,
            pure=options.pure,
            leave_output=options.leave_output,
            output_type=options.output_type,
            embedding_type=options.embedding_type,
            overrides=options.overrides,
        )
        for quant in quants
    ]
    found = [made_of.variant(recipe, weights.about if weights else None) for recipe in recipes]
    planned = {variant.recipe.quant: variant for variant in found}
    lacking = [variant for variant in planned.values() if variant.needs_imatrix]
    if lacking:
        names = ", ".join(variant.recipe.quant for variant in lacking)
        need = "needs" if len(lacking) == 1 else "need"
        raise BadInput(
            f"{names} {need} an importance matrix (first tensor: {lacking[0].needs_imatrix})",
            do="--imatrix FILE     (made with llama-imatrix, or published beside the model's quants)",
        )
    if weights:
        for variant in planned.values():
            check_covers(weights, variant, types_that_need_imatrix(variant.recipe.quant))
    return tuple(planned.values())


def _check_targets(source: Model, folder: Path, targets: Sequence[Path], *, replace: bool) -> None:
    if not os.access(folder, os.W_OK):
        raise NotAllowed(f"{folder} may not be written to", do="-o FOLDER")
    for target in targets:
        if target.exists() and target.samefile(source.path):
            raise BadInput(f"{target} is the source itself", do="-o FOLDER")
        if target.exists() and not replace:
            raise BadInput(f"{target} is there already", do="--replace, or -o FOLDER")


def _room(folder: Path) -> int:
    from qwenops.machine.host import disk_free_bytes

    if not folder.is_dir():
        raise BadInput(f"no such folder: {folder}", do=f"mkdir -p {folder}")
    return disk_free_bytes(folder)


def _row(variant: Variant, target: Path, made: Made | None) -> dict[str, Any]:
    said = variant.model
    return {
        "quant": variant.recipe.quant,
        "file": str(target),
        "file_bytes": made.file_bytes if made else None,
        "predicted_bytes": said.file_bytes,
        "bits_per_weight": round(variant.bits_per_weight, 4),
        "types": made.types if made else types_of(said.header),
        "imatrix": variant.recipe.imatrix,
        "fallbacks": variant.fallbacks,
        "seconds": made.seconds if made else None,
        "engine": made.engine if made else None,
    }


def _notes(made_of: Requantizer, planned: Sequence[Variant]) -> tuple[str, ...]:
    """What someone should know of the quants."""
    if made_of.was_quantized:
        return (f"{made_of.source.path.name} is quantized already: quality is lost twice",)
    return tuple(f"{v.recipe.quant}: {note}" for v in planned for note in made_of.notes(v))
