"""Whose a row of the history is: its label on the report, and which rows belong to the models that were asked about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qwenops.errors import QwenopsError
from qwenops.model.types import Model
from qwenops.report.plain import whole

if TYPE_CHECKING:
    from qwenops.history import History, LoadRow, ResultRow

_MOST_FILES = 16
_PROJECTORS: tuple[Literal["auto"] | None, ...] = ("auto", None)


@dataclass(frozen=True)
class Named:
    """A variant by name and quant, with its size where the file is known."""

    name: str
    quant: str
    file_bytes: int | None = None


@dataclass(frozen=True)
class Names:
    """Variants by the key of their files; `wanted` are the models that were asked about, none: all of the history."""

    wanted: tuple[Model, ...]
    found: tuple[Model, ...]
    by_key: Mapping[str, Named]
    one_name: bool

    def label(self, name: str, quant: str) -> str:
        """The quant alone where all are of one model, else name and quant."""
        said = quant if self.one_name and quant else f"{name} {quant}".strip()
        return whole(said)

    def within(self, names: Iterable[str]) -> Names:
        """The same for rows of these models only: where they are of one, its name is left out of the labels."""
        return replace(self, one_name=len(set(names)) == 1)

    def of_result(self, row: ResultRow) -> Named:
        """The variant that a result is of."""
        known = self.by_key.get(row.model_key)
        return Named(row.model, row.quant, known.file_bytes if known else None)

    def of_load(self, row: LoadRow) -> Named:
        """The variant that was loaded, by its file's name where nothing else is known of it."""
        return self.by_key.get(row.model_key) or Named(_file_of(row).name or row.model_key[:12], "")

    def found_models(self) -> tuple[Model, ...]:
        """The models of the history whose files are still there, unchanged."""
        return self.found

    def loads(self, kept: History) -> tuple[LoadRow, ...]:
        """Loads that ended well and were measured, of the models that were asked about, oldest first."""
        return tuple(
            row
            for row in kept.loads()
            if row.ok and row.measured is not None and (not self.wanted or row.model_key in self.by_key)
        )

    def results(self, kept: History) -> tuple[ResultRow, ...]:
        """Results of the models that were asked about, oldest first; rows of old versions by their names."""
        rows = kept.results()
        if not self.wanted:
            return rows
        called = {(model.name, model.quant) for model in self.wanted}
        return tuple(
            row
            for row in rows
            if row.model_key in self.by_key or (not row.model_key and (row.model, row.quant) in called)
        )


def read_names(kept: History, models: Sequence[Model]) -> Names:
    """Names of the models that were asked about; without any, of everything in the history."""
    found = () if models else _still_there(kept)
    by_key: dict[str, Named] = {}
    if not models:
        for row in kept.results():
            if row.model_key:
                by_key[row.model_key] = Named(row.model, row.quant)
    for model in (*models, *found):
        for key in _keys(model):
            by_key[key] = Named(model.name, model.quant, model.file_bytes)
    names = {one.name for one in by_key.values()}
    return Names(tuple(models), found, by_key, one_name=len(names) == 1)


def _keys(model: Model) -> Iterable[str]:
    """A model's keys: with its projector, and as what reads no pictures knows it."""
    from qwenops.model.read import model_key

    yield model_key(model)
    if model.projector is not None:
        yield model_key(replace(model, projector=None))


def _still_there(kept: History) -> tuple[Model, ...]:
    """Models of past loads, read again; a file that was changed, or lies with another projector now, is another."""
    from qwenops.model.read import model_key, read_model

    found: dict[str, Model] = {}
    tried: set[Path] = set()
    for row in reversed(kept.loads()):
        path = _file_of(row)
        if path in tried or not path.is_file():
            continue
        tried.add(path)
        if len(tried) > _MOST_FILES:
            break
        for mmproj in _PROJECTORS:
            try:
                model = read_model(path, mmproj)
            except QwenopsError:
                continue
            if model_key(model) == row.model_key:
                found.setdefault(row.model_key, model)
                break
    registered = _registered(kept)
    for model in registered:
        found.setdefault(model_key(model), model)
    return by_model(found.values())


def by_model(models: Iterable[Model]) -> tuple[Model, ...]:
    """The quants of each model together, the best first; the models in the order in which they came."""
    from qwenops.model.quants import quality_rank

    groups: dict[tuple[str, str], list[Model]] = {}
    for model in models:
        groups.setdefault((model.name, model.architecture), []).append(model)
    return tuple(
        model
        for group in groups.values()
        for model in sorted(group, key=lambda m: (-quality_rank(m.quant), -m.file_bytes, m.source))
    )


def _registered(kept: History) -> tuple[Model, ...]:
    """The models that qwenops registered and that Ollama still has."""
    names = [f"ollama:{row.name}" for row in kept.recipes()][-_MOST_FILES:]
    if not names:
        return ()
    from qwenops.setup.given import stored_models

    try:
        return tuple(stored_models(names).values())
    except QwenopsError:
        return ()


def _file_of(row: LoadRow) -> Path:
    model: Any = row.predicted.get("model") or {}
    return Path(str(model.get("file") or ""))
