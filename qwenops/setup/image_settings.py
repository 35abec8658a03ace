"""`image settings` and `image compare`: published values with their sources, as results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from qwenops.image.catalogue import ImageModel, Source, find, models
from qwenops.image.compare import Row, compare
from qwenops.image.settings import Settings, choose_settings
from qwenops.result import Result

NAMES: Final = ("size", "steps", "true_cfg_scale", "negative_prompt", "flow_shift", "sampler")


def settings_result(name: str, **wish: Any) -> Result:
    """The settings for a picture of a model ("qwenops.image-settings/1"): values, their sources, sizes, LoRAs."""
    model = find(name)
    chosen = choose_settings(model, **wish)
    data = {
        "model": model.id,
        "title": model.title,
        "makes": model.makes,
        "licence": model.value("licence"),
        "preset": chosen.preset,
        "settings": {key: _setting(chosen, key) for key in NAMES},
        "evaluations": chosen.evaluations,
        "lightning": None if chosen.lightning is None else _lora(chosen.lightning),
        "sizes": [{"ratio": ratio, "width": w, "height": h} for ratio, (w, h) in model.sizes.items()],
        "lightning_sets": [_lora(one) for one in model.lightning],
        "engine_example": _engine_example(model),
        "prompt_tokens": model.value("prompt_tokens"),
        "sources": [_source(one) for one in _sources(chosen)],
    }
    return Result("qwenops.image-settings/1", data, chosen.remarks)


def compare_result(names: Sequence[str] = ()) -> Result:
    """Models side by side ("qwenops.image-compare/1"); all of them without names. What nobody published is null."""
    chosen = [find(name) for name in names] or list(models().values())
    rows = compare(chosen)
    every = dict.fromkeys(source for row in rows for source in row.sources)
    return Result(
        "qwenops.image-compare/1",
        {"models": [_row(row) for row in rows], "sources": [_source(one) for one in every]},
    )


def _row(row: Row) -> dict[str, Any]:
    return {
        "model": row.model.id,
        "title": row.model.title,
        "makes": row.model.makes,
        **{name: cell.value for name, cell in row.cells.items()},
        "from": {name: cell.source.id for name, cell in row.cells.items() if cell.source is not None},
    }


def _setting(chosen: Settings, name: str) -> dict[str, Any]:
    value = getattr(chosen, name)
    came = chosen.came_from[name]
    said = came.id if isinstance(came, Source) else came
    return {"value": str(value) if name == "size" else value, "from": said}


def _engine_example(model: ImageModel) -> dict[str, Any] | None:
    """What the documentation of stable-diffusion.cpp runs the model with, which is not what its makers say."""
    cfg = model.facts.get("sd_cpp_cfg_scale")
    if cfg is None:
        return None
    return {"cfg_scale": cfg.value, "flow_shift": model.value("sd_cpp_flow_shift"), "from": cfg.source.id}


def _lora(one: Any) -> dict[str, Any]:
    return {
        "repo": one.repo,
        "file": one.file,
        "steps": one.steps,
        "true_cfg_scale": one.true_cfg_scale,
        "flow_shift": one.flow_shift,
        "from": one.source.id,
    }


def _sources(chosen: Settings) -> list[Source]:
    came = [one for one in chosen.came_from.values() if isinstance(one, Source)]
    return list(dict.fromkeys([*came, *(one.source for one in chosen.model.lightning)]))


def _source(one: Source) -> dict[str, str]:
    return {"id": one.id, "title": one.title, "url": one.url}
