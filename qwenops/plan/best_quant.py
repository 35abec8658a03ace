"""The best quant of a model that fits a machine whole, by formula: the quick answer for a list of many models."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace

from qwenops.machine.types import Machine
from qwenops.model.types import Model
from qwenops.plan.fit import DEFAULT_HEADROOM_BYTES
from qwenops.plan.ground import ground
from qwenops.plan.scene import make_scene
from qwenops.plan.search import first_choice, trained_context
from qwenops.plan.types import Wish

CONTEXTS = (8192, 16384, 32768, 65536, 131072, 262144)
"""The contexts that are tried: a list needs no more steps than people compare, and below the first a picture of full
size leaves no room for an answer."""


@dataclass(frozen=True)
class Published:
    """A variant by its dimensions; `more_bytes` is what the published file is known to have beyond it (own mixes)."""

    model: Model
    more_bytes: int = 0

    @property
    def file_bytes(self) -> int:
        """Model and projector on disk."""
        projector = self.model.projector.file_bytes if self.model.projector else 0
        return self.model.file_bytes + self.more_bytes + projector


@dataclass(frozen=True)
class Fitting:
    """A quant with the largest of CONTEXTS at which every layer, the projector and a picture of full size fit."""

    variant: Published
    num_ctx: int


def best_quant(variants: Iterable[Published], machine: Machine) -> Fitting | None:
    """The first of `variants` (the best quant first) that fits with the smallest of CONTEXTS; None if none does."""
    base = ground(machine, None)
    room = base.free_bytes or machine.host.available_bytes
    for variant in variants:
        if variant.file_bytes > room:
            continue  # the weights alone are too large; saves the replay
        found = _largest(variant, machine)
        if found:
            return Fitting(variant, found)
    return None


def _largest(variant: Published, machine: Machine) -> int:
    model = variant.model
    wish = Wish(num_ctx=CONTEXTS[0], headroom_bytes=DEFAULT_HEADROOM_BYTES + variant.more_bytes)
    scene = make_scene("chat", ground(machine, None), wish, None)
    start = first_choice(model, scene)
    contexts = [n for n in CONTEXTS if n <= trained_context(model)] or [trained_context(model)]

    def fits(num_ctx: int) -> bool:
        choice = replace(start, settings=replace(start.settings, num_ctx=num_ctx))
        return scene.weigh(choice, scene.quick).fits == "yes"

    # a larger context never needs less, so the ones that fit come first
    count = bisect_left(contexts, True, key=lambda n: not fits(n))
    return contexts[count - 1] if count else 0
