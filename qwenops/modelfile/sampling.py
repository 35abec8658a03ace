"""The sampling values of a family, each with the place where its makers gave it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qwenops.modelfile.types import Mode
from qwenops.tables import load_table

NO_VALUES = "no values of its makers are known to us: Ollama's own defaults hold"


@dataclass(frozen=True)
class Sampling:
    """Values under Ollama's parameter names, and the source of each. Without values, `note` says why."""

    values: Mapping[str, float]
    sources: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def by_source(self) -> tuple[tuple[str, dict[str, float]], ...]:
        """The values in their order, those with one source together."""
        groups: dict[str, dict[str, float]] = {}
        for name, value in self.values.items():
            groups.setdefault(self.sources[name], {})[name] = value
        return tuple(groups.items())


def sampling(family: str, mode: Mode, chosen: str = "default") -> Sampling:
    """The values of a set for a family in one mode; none, and no claim, for a family that is not in sampling.toml."""
    modes = load_table("qwenops.modelfile", "sampling.toml").get(family)
    if not modes:
        return Sampling({}, note=f"{family}: {NO_VALUES}")
    tables = modes.get(mode) or next(iter(modes.values()))
    values: dict[str, float] = {}
    sources: dict[str, str] = {}
    for name in ("default", chosen):
        table = tables.get(name, {})
        for key, given in table.items():
            if key == "source":
                continue
            value, source = (given["value"], given["source"]) if isinstance(given, dict) else (given, table["source"])
            values[key] = value
            sources[key] = source
    return Sampling(values, sources)


def families() -> tuple[str, ...]:
    """The families that have values."""
    return tuple(load_table("qwenops.modelfile", "sampling.toml"))
