"""Models that make pictures: every value with the source it is from, and nothing where none is known.

The data is models.toml beside this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from qwenops.errors import BadInput
from qwenops.model.nearby import like
from qwenops.tables import load_table

QWEN_IMAGE: Final = "qwen_image"
"""The architecture of the 20B line, as stable-diffusion.cpp and ComfyUI-GGUF write it."""


@dataclass(frozen=True)
class Source:
    """Where values are from."""

    id: str
    title: str
    url: str


@dataclass(frozen=True)
class Fact:
    """One published value and its source."""

    value: Any
    source: Source


@dataclass(frozen=True)
class Lightning:
    """A distilled LoRA made for one model. `file` is None where its name was not seen."""

    repo: str
    steps: int
    source: Source
    file: str | None = None
    true_cfg_scale: float = 1.0
    flow_shift: float = 3.0


@dataclass(frozen=True)
class ImageModel:
    """One model. `sizes` are the official ones by ratio; empty where its maker has published no table.

    `makes` is "pictures", "edits" or both; `lora_base` names the weights that a LoRA must have been trained on.
    """

    id: str
    title: str
    names: tuple[str, ...]
    makes: str
    lora_base: str
    facts: Mapping[str, Fact]
    scores: Mapping[str, Fact]
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    lightning: tuple[Lightning, ...] = ()
    example_ratio: str | None = None

    def value(self, fact: str) -> Any:
        """A published value, None where none is known."""
        found = self.facts.get(fact)
        return None if found is None else found.value

    @property
    def edits(self) -> bool:
        """Whether it takes pictures to change."""
        return "edits" in self.makes

    @property
    def draws(self) -> bool:
        """Whether it makes pictures from words alone."""
        return "pictures" in self.makes

    @property
    def is_qwen_image(self) -> bool:
        """Whether it is of the 20B line, which stable-diffusion.cpp runs as architecture qwen_image."""
        return bool(self.value("architecture") == QWEN_IMAGE)

    @property
    def is_qwen(self) -> bool:
        """Whether it is one of the Qwen-Image models, of whose settings there is something to say."""
        return self.id.startswith("qwen-image")


@cache
def models() -> Mapping[str, ImageModel]:
    """All models by their id, in the order of the table."""
    table = load_table("qwenops.image", "models.toml")
    return {name: _model(name, row, table["sizes"]) for name, row in table["models"].items()}


@cache
def sources() -> Mapping[str, Source]:
    """All sources by their id."""
    rows = load_table("qwenops.image", "models.toml")["sources"]
    return {name: Source(name, row["title"], row["url"]) for name, row in rows.items()}


def find(name: str) -> ImageModel:
    """The model of a name that people type. Raises BadInput with the nearest names where there is none."""
    wanted = name.strip().lower().removeprefix("qwen/")
    by_name = {alias: model for model in models().values() for alias in (model.id, *model.names)}
    if wanted in by_name:
        return by_name[wanted]
    near = like(wanted, by_name, most=3, cutoff=0.5)
    raise BadInput(
        f"no model that makes pictures is called {name!r}",
        do=("did you mean " + ", ".join(near),) if near else ("known: " + ", ".join(models()),),
    )


def _model(name: str, row: Mapping[str, Any], sizes: Mapping[str, Mapping[str, list[int]]]) -> ImageModel:
    official = sizes.get(row.get("sizes", ""), {})
    return ImageModel(
        id=name,
        title=row["title"],
        names=tuple(row["names"]),
        makes=row["makes"],
        lora_base=row["lora_base"],
        facts=_facts(row.get("facts", {})),
        scores=_facts(row.get("scores", {})),
        sizes={ratio: (size[0], size[1]) for ratio, size in official.items()},
        lightning=tuple(
            Lightning(one["repo"], one["steps"], sources()[one["from"]], one.get("file"))
            for one in row.get("lightning", ())
        ),
        example_ratio=row.get("example_ratio"),
    )


def _facts(rows: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Fact]:
    return {name: Fact(row["value"], sources()[row["from"]]) for name, row in rows.items()}
