"""`image bench`: quants of one model at the same seeds: seconds a step, memory, and how near their pictures are."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from qwenops.errors import BadInput, PartMissing
from qwenops.image.library import INSTALL, PACKAGE, version
from qwenops.image.likeness import psnr_db, ssim
from qwenops.image.parts import Role, part_key
from qwenops.image.run import OnEvent, Painted, paint, write_png
from qwenops.result import Result
from qwenops.setup.image_record import beside_plan, engine_of, settings_text, summary
from qwenops.setup.image_run import Ready, make_ready

OnVariant = Callable[[str], None]


@dataclass(frozen=True)
class _Ran:
    ready: Ready
    painted: Painted

    @property
    def name(self) -> str:
        return self.ready.wish.parts["diffusion"].name


def image_bench_result(
    name: str,
    files: Sequence[Path],
    *,
    reference: Path,
    prompt: str,
    given: Mapping[Role, Path | None],
    seed: int = 1,
    seeds: int = 1,
    keep: Path | None = None,
    on_variant: OnVariant = lambda _: None,
    on_event: OnEvent | None = None,
    **wish: Any,
) -> Result:
    """Each file's pictures held against the reference's of the same seeds ("qwenops.image-bench/1").

    PSNR and SSIM are of the decoded pictures; a small distance says that a quant draws the same picture, not that a
    large one draws a worse one.
    """
    if version() is None:
        raise PartMissing(f"{PACKAGE} is not installed", do=INSTALL)
    if keep is not None and not keep.is_dir():
        raise BadInput(f"there is no folder {keep}", do=f"mkdir -p {keep}")
    others = [path for path in files if path.resolve() != reference.expanduser().resolve()]
    if not others:
        raise BadInput("there is nothing to hold against the reference", do="name at least one other file")
    with tempfile.TemporaryDirectory() as nowhere:
        ready = [
            make_ready(
                name, prompt, {**given, "diffusion": path}, Path(nowhere) / f"{i}.png", seed=seed, batch=seeds, **wish
            )
            for i, path in enumerate([reference, *others])
        ]
    ran = []
    for one in ready:
        on_variant(one.wish.parts["diffusion"].name)
        ran.append(_Ran(one, paint(one.wish, on_event)))
    rows = [_row(one, ran[0]) for one in ran]
    _keep_rows(ran, rows)
    if keep is not None:
        _keep_pictures(ran, keep)
    size = ran[0].ready.wish.settings.size
    data = {
        "model": ran[0].ready.wish.settings.model.id,
        "title": ran[0].ready.wish.settings.model.title,
        "size": str(size),
        "steps": ran[0].ready.wish.settings.steps,
        "seeds": [seed + i for i in range(seeds)],
        "reference": ran[0].name,
        "variants": rows,
    }
    return Result("qwenops.image-bench/1", data, ran[0].ready.notes)


def _row(one: _Ran, reference: _Ran) -> dict[str, Any]:
    """One variant; likeness by seed, None for the reference itself and where pictures are equal (an infinite PSNR)."""
    part = one.ready.wish.parts["diffusion"]
    pairs = [(_pixels(one.painted, i), _pixels(reference.painted, i)) for i in range(one.ready.wish.batch)]
    same = one is reference
    noise = [] if same else [psnr_db(a, b) for a, b in pairs]
    return {
        "file": part.name,
        "quant": part.quant,
        "file_bytes": part.file_bytes,
        "is_reference": same,
        "step_seconds": list(one.painted.answer["step_seconds"]),
        "median_step_seconds": median(one.painted.answer["step_seconds"]),
        "memory": beside_plan(one.ready.logged, one.painted),
        "peak_host_bytes": one.painted.answer["peak_host_bytes"],
        "psnr_db": [None if math.isinf(value) else value for value in noise],
        "equal_pictures": sum(math.isinf(value) for value in noise),
        "ssim": [] if same else [ssim(a, b) for a, b in pairs],
    }


def _pixels(painted: Painted, index: int) -> Any:
    import numpy as np

    width, height, channels, data = painted.pictures[index]
    return np.frombuffer(data, np.uint8).reshape(height, width, channels)


def _keep_pictures(ran: Sequence[_Ran], folder: Path) -> None:
    for one in ran:
        wish = one.ready.wish
        for index, picture in one.painted.pictures.items():
            path = folder / f"{Path(one.name).stem}-{wish.seed + index}.png"
            write_png(path, picture, settings_text(wish, wish.seed + index, {}), summary(wish, wish.seed + index))


def _keep_rows(ran: Sequence[_Ran], rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows in the history: SSIM by seed for each variant but the reference, and seconds a step for all."""
    from qwenops import history

    outcomes = []
    for one, row in zip(ran, rows, strict=True):
        wish = one.ready.wish
        common: dict[str, Any] = {
            "kind": "image",
            "model": wish.settings.model.title,
            "quant": row["quant"],
            "model_key": part_key(wish.parts["diffusion"]),
            "engine": engine_of(one.painted),
            "device": str(one.painted.answer["backend"]).upper(),
            "settings": {"steps": wish.settings.steps, "seed": wish.seed, "reference": ran[0].name},
        }
        outcomes.append(
            history.Outcome(**common, test=f"step {wish.settings.size}", samples=tuple(row["step_seconds"]), unit="s")
        )
        if not row["is_reference"]:
            outcomes.append(
                history.Outcome(**common, test=f"ssim {wish.settings.size}", samples=tuple(row["ssim"]), unit="SSIM")
            )
    with history.open() as kept:
        kept.record_results(outcomes)
