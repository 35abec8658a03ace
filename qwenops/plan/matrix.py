"""Models down, cards across: the largest context with which a model runs whole on a card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qwenops.machine.types import Machine
from qwenops.model.types import Model
from qwenops.plan.ground import ground
from qwenops.plan.scene import make_scene
from qwenops.plan.search import first_choice, largest_context, trained_context
from qwenops.plan.types import Wish

# Below this a model can hold no conversation, so it is not said to fit.
SMALLEST_CONTEXT = 1024


@dataclass(frozen=True)
class Cell:
    """One model on one card. `num_ctx` 0: it does not fit. `whole` when the trained context is reached."""

    num_ctx: int
    whole: bool
    needed_bytes: int
    free_bytes: int


def fits_matrix(models: Sequence[Model], machines: Sequence[Machine], wish: Wish) -> list[list[Cell]]:
    """A row a model, a cell a machine, by formula: every layer, the projector and the largest image on the card."""
    return [[_cell(model, machine, wish) for machine in machines] for model in models]


def _cell(model: Model, machine: Machine, wish: Wish) -> Cell:
    scene = make_scene("chat", ground(machine, None), replace(wish, num_ctx=SMALLEST_CONTEXT), None)
    start = first_choice(model, scene)
    most = max(trained_context(model), SMALLEST_CONTEXT)
    found = largest_context(start, scene, low=SMALLEST_CONTEXT, high=most)
    settings = replace(start.settings, num_ctx=found or SMALLEST_CONTEXT)
    need = scene.quick(model, settings)
    on_card = bool(machine.devices)
    return Cell(
        num_ctx=found,
        whole=found == most,
        needed_bytes=need.total_device_bytes if on_card else need.host.total_bytes,
        free_bytes=scene.ground.free_bytes if on_card else machine.host.available_bytes,
    )
