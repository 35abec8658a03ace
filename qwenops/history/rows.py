"""Value types of the history: one frozen dataclass for a row of each table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

MadeKind = Literal["model", "file", "setting"]
ResultKind = Literal["speed", "quality", "reading", "vision", "image", "sight"]
Table = Literal["plans", "loads", "results"]
TABLES: tuple[Table, ...] = get_args(Table)
"""The tables of what was learned; what was made here, and how, is of no use elsewhere."""


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


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One benchmark result: what was measured of which variant, with its single measurements in order.

    `test` is the short name within its `kind` ("pp512", "ppl c512"), `unit` what the samples are counted in.
    `model_key` names the exact file as plans and loads do, `run` groups what one command measured, `engine` is the
    runtime with its build, `device` where the layers ran. `evidence` is what was watched meanwhile: memory, energy,
    and whether the machine was busy. All but `model`, `test` and `samples` may be empty in rows of older versions.
    """

    kind: ResultKind = "speed"
    model: str
    test: str
    samples: tuple[Any, ...]
    quant: str = ""
    model_key: str = ""
    unit: str = ""
    run: str = ""
    engine: str = ""
    device: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ResultRow(Outcome):
    """An outcome that is kept."""

    id: int
    created: datetime


Learned = PlanRow | LoadRow | ResultRow
"""A row of one of TABLES."""


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
