"""How a model was made: what was asked, what was chosen and on what machine, kept so that it can be planned again."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from qwenops import history
from qwenops.history import RecipeRow
from qwenops.machine.types import Machine
from qwenops.plan.types import Judged
from qwenops.runtime.types import Runtime
from qwenops.setup.given import Given
from qwenops.units import MIB, human

_NEARLY = 64 * MIB
"""By less than this a card's memory did not change: drivers keep a little more or less for themselves."""


@dataclass(frozen=True)
class Recipe:
    """One model: the words it was asked for with, the choice they led to, and where that was made.

    `asked` are paths (absolute), references or names; `pins` the plan's own wishes; `choice` is that of
    "qwenops.plan/1". `place` is the store, or the address of a server whose store is out of reach.
    """

    name: str
    place: str
    asked: tuple[str, ...]
    task: str
    mmproj: str | None = None
    mode: str | None = None
    system: str | None = None
    template: str | None = None
    pins: Mapping[str, Any] = field(default_factory=dict)
    choice: Mapping[str, Any] = field(default_factory=dict)
    predicted_bytes: int = 0
    model_key: str = ""
    settings_key: str = ""
    ollama: str | None = None
    llama_server_build: str | None = None
    devices: tuple[Mapping[str, Any], ...] = ()
    made: datetime | None = None


def place_of(runtime: Runtime) -> str:
    """Where the models of a server are."""
    return str(runtime.store.path) if runtime.store else runtime.url


def recipe_of(
    name: str,
    asked: tuple[Given, ...],
    mmproj: Given | None,
    task: str,
    chosen: Judged,
    machine: Machine,
    runtime: Runtime,
    *,
    mode: str | None = None,
    system: str | None = None,
    template: Path | None = None,
    pins: Mapping[str, Any] | None = None,
) -> Recipe:
    """The recipe of a model that was just made."""
    from qwenops.memory.measured import settings_key
    from qwenops.model.read import model_key

    need, choice = chosen.need, chosen.choice
    return Recipe(
        name=name,
        place=place_of(runtime),
        asked=tuple(_said(one) for one in asked),
        task=task,
        mmproj=None if mmproj is None else _said(mmproj),
        mode=mode,
        system=system,
        template=None if template is None else str(template.absolute()),
        pins={k: v for k, v in (pins or {}).items() if v is not None and k != "offline"},
        choice=choice.as_data(need.layers.on_device),
        predicted_bytes=need.total_device_bytes or need.host.total_bytes,
        model_key=model_key(choice.model),
        settings_key=settings_key(choice.settings),
        ollama=runtime.version,
        llama_server_build=runtime.llama_server_build,
        devices=tuple(
            {"description": d.description, "total_bytes": d.total_bytes, "driver": d.driver} for d in machine.devices
        ),
    )


def keep(recipe: Recipe) -> None:
    """Note a recipe in place of what was known of the name."""
    values = asdict(recipe)
    for key in ("name", "place", "made"):
        del values[key]
    with history.open() as kept:
        kept.record_recipe(recipe.name, recipe.place, {**values, "devices": [dict(d) for d in recipe.devices]})


def known_recipes(runtime: Runtime) -> dict[str, Recipe]:
    """The recipes of a server's models, by name."""
    with history.open() as kept:
        return {row.name: _read(row) for row in kept.recipes(place=place_of(runtime))}


def forget(runtime: Runtime, name: str) -> None:
    """The model is gone."""
    with history.open() as kept:
        kept.forget_recipe(name, place_of(runtime))


def measured_bytes(recipe: Recipe) -> int | None:
    """What the last load as planned took on the devices, or on the host without any; None where none was seen."""
    with history.open() as kept:
        rows = [r for r in kept.loads(model_key=recipe.model_key) if r.ok and r.settings_key == recipe.settings_key]
    if not rows or not rows[-1].measured:
        return None
    devices = rows[-1].measured.get("devices") or ()
    parts = devices or [rows[-1].measured.get("host") or {}]
    return sum(v for part in parts for k, v in part.items() if k.endswith("_bytes")) or None


def stale(recipe: Recipe, machine: Machine, runtime: Runtime) -> tuple[str, ...]:
    """What is not as it was when the plan was made, a sentence each; none where the plan still stands.

    What could not be asked now, or was not then, is no change.
    """
    reasons = []
    for what, then, now in (
        ("Ollama", recipe.ollama, runtime.version),
        ("llama-server", recipe.llama_server_build, runtime.llama_server_build),
    ):
        if then and now and then != now:
            reasons.append(f"made under {what} {then}, now {now}")
    before = [str(d["description"]) for d in recipe.devices]
    there = [d.description for d in machine.devices]
    if sorted(before) != sorted(there):
        return (*reasons, f"made for {', '.join(before) or 'the CPU'}, now there is {', '.join(there) or 'no device'}")
    for then_device, device in zip(
        sorted(recipe.devices, key=lambda d: (str(d["description"]), int(d["total_bytes"]))),
        sorted(machine.devices, key=lambda d: (d.description, d.total_bytes)),
        strict=True,
    ):
        total, driver = int(then_device["total_bytes"]), then_device["driver"]
        if abs(total - device.total_bytes) > _NEARLY:
            reasons.append(
                f"{device.description} had {human(total)} in all when it was made, now {human(device.total_bytes)}"
            )
        if driver and device.driver and driver != device.driver:
            reasons.append(f"made under driver {driver}, now {device.driver}")
    return tuple(dict.fromkeys(reasons))


def _said(given: Given) -> str:
    return str(given.absolute()) if isinstance(given, Path) else given


def as_given(text: str) -> Given:
    """A word of a recipe as the commands take it: a path for what lies on this disk, else the text."""
    path = Path(text)
    return path if path.is_absolute() else text


def _read(row: RecipeRow) -> Recipe:
    known = {k: v for k, v in row.recipe.items() if k in Recipe.__dataclass_fields__}
    for key in ("asked", "devices"):
        known[key] = tuple(known.get(key) or ())
    with contextlib.suppress(TypeError):
        return Recipe(name=row.name, place=row.place, made=row.created, **known)
    return Recipe(row.name, row.place, (), "chat", made=row.created)
