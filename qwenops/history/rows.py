"""Value types of the history: one frozen dataclass for a row of each table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

MadeKind = Literal["model", "file", "setting"]


@dataclass(frozen=True)
class PlanRow:
    """A plan as it was shown. `model_key` names the exact file (its digest); `plan` holds plain JSON values."""

    id: int
    created: datetime
    model_key: str
    plan: Mapping[str, Any]


@dataclass(frozen=True)
class LoadRow:
    """A load: what was predicted before it and what was measured in it (None while it runs, or when it died)."""

    id: int
    created: datetime
    model_key: str
    settings_key: str
    runtime_build: str
    device: str
    predicted: Mapping[str, Any]
    measured: Mapping[str, Any] | None
    ok: bool | None


@dataclass(frozen=True)
class ResultRow:
    """One benchmark result. `test` is the short name ("pp512"); `samples` are the single measurements, in order."""

    id: int
    created: datetime
    model: str
    test: str
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    samples: tuple[Any, ...]


@dataclass(frozen=True)
class RecipeRow:
    """How a registered model was made; `place` is its store, or the address of its server. Plain JSON values."""

    id: int
    created: datetime
    name: str
    place: str
    recipe: Mapping[str, Any]


@dataclass(frozen=True)
class MadeRow:
    """A thing that qwenops made and can take away again. `location` is a path, a store or a settings file."""

    id: int
    created: datetime
    kind: MadeKind
    name: str
    location: str
    details: Mapping[str, Any]
    removed: datetime | None
