"""The variants of one plan held side by side: their order by what was measured, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qwenops.model.types import Model
from qwenops.plan.beside import Beside, Load, beside, in_order, load_of, words
from qwenops.plan.measured import Measured
from qwenops.plan.search import Scene
from qwenops.plan.types import Choice, Judged


class Holding:
    """What was measured, asked for pairs of variants of one scene; each pair is worked out once."""

    def __init__(self, measured: Measured, scene: Scene) -> None:
        self.measured = measured
        self._scene = scene
        self._load = Load(scene.profile.prompt_tokens, scene.profile.answer_tokens)
        self._found: dict[tuple[int, int], Beside] = {}

    def in_order(self, ranked: Sequence[tuple[Choice, Judged]]) -> list[tuple[Choice, Judged]]:
        """Variants that fit, which come by their bits, as what was measured orders them."""
        if ranked:
            choice = ranked[0][0]
            self._load = load_of(self._scene.profile, choice.images, choice.picture_tokens)
        return list(in_order(ranked, lambda pair: pair[1].choice.model, self.pair))

    def pair(self, ours: Model, theirs: Model) -> Beside:
        """One variant beside another."""
        key = (id(ours), id(theirs))
        if key not in self._found:
            self._found[key] = beside(ours, theirs, self.measured, self._scene.profile, self._load)
        return self._found[key]

    def over(self, chosen: Judged, other: Judged | None) -> str:
        """Why one came before another of more bits, by what was measured; empty where that is not why."""
        if other is None or other.choice.model is chosen.choice.model:
            return ""
        held = self.pair(chosen.choice.model, other.choice.model)
        if not held.comes_first:
            return ""
        return f"{chosen.choice.model.quant} before {other.choice.model.quant}: measured here, {words(held)}"

    @property
    def load(self) -> Load:
        """What the task reads and writes."""
        return self._load

    def as_data(self, chosen: Judged | None, others: Sequence[Judged], first: Judged | None) -> dict[str, Any]:
        """Plain JSON values: what decided, each rival beside the choice, what is set aside, what is not measured yet.

        `decided` is "measured" where the choice is not the one of most bits, else "bits"; `missing` names the kinds of
        measurements that are lacking of the choice or of a rival.
        """
        if chosen is None:
            return {"decided": None, "beside": [], "set_aside": [], "missing": []}
        model = chosen.choice.model
        pairs = [(other.choice.model, self.pair(model, other.choice.model)) for other in others]
        return {
            "decided": "measured" if first is not None and self.over(chosen, first) else "bits",
            "beside": [
                {"quant": other.quant, "file": other.source, **held.as_data(), "words": words(held)}
                for other, held in pairs
                if held.known
            ],
            "set_aside": [vars(one) for one in self.measured.set_aside],
            "missing": self._missing([held for _, held in pairs]),
        }

    def _missing(self, pairs: Sequence[Beside]) -> list[str]:
        if not pairs:
            return []
        wanted = self._scene.profile.measured[0].split(" ")[0]
        lacking = [
            "speed" if any(held.pace is None for held in pairs) and not self.measured.described else "",
            wanted if any(held.verdict == "not measured" for held in pairs) else "",
        ]
        return [kind for kind in lacking if kind]
