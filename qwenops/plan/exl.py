"""What ExLlama would fit on a card: for each model and each width of its cache, the largest context that is safe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from qwenops.machine.types import Device
from qwenops.memory.exl import RESERVE_BYTES, Estimator, ExlNeed, ExlSettings
from qwenops.memory.exl_cache import PAGE_TOKENS, USUAL_BITS, CacheBits
from qwenops.memory.exl_weights import bits_of
from qwenops.model.exl_support import why_not_here, why_not_loaded
from qwenops.plan.fit import DEFAULT_HEADROOM_BYTES
from qwenops.plan.types import Fits

SMALLEST_CONTEXT = 1024


@dataclass(frozen=True)
class ExlChoice:
    """One model with one cache: the largest context that is safe (0: none is), and the need at `need.settings`."""

    estimate: Estimator
    bits: CacheBits
    largest_context: int
    need: ExlNeed
    fits: Fits


@dataclass(frozen=True)
class ExlPlan:
    """Every choice, best first, and the one that is taken; `refused` says why a model is not among them."""

    device: Device
    floor: int
    chosen: ExlChoice | None
    choices: tuple[ExlChoice, ...]
    refused: tuple[tuple[str, str], ...]

    @property
    def fits(self) -> Fits:
        """The verdict over all."""
        if self.chosen:
            return "yes"
        return "too close" if any(c.fits == "too close" for c in self.choices) else "no"


def usable(devices: Iterable[Device]) -> Device | None:
    """The card that is planned for: the one with most free memory of those that ExLlama runs on at all."""
    cards = [d for d in devices if d.kind in ("cuda", "rocm")]
    return max(cards, key=lambda d: d.free_bytes, default=None)


def judge(need: ExlNeed, device: Device, headroom_bytes: int = DEFAULT_HEADROOM_BYTES) -> Fits:
    """Yes where the upper edge, the loader's own reserve and the headroom fit; no where the lower edge does not."""
    room = device.free_bytes - RESERVE_BYTES
    if need.band.high + headroom_bytes <= room:
        return "yes"
    return "no" if need.band.low > room else "too close"


def largest_context(
    estimate: Estimator, settings: ExlSettings, device: Device, headroom_bytes: int = DEFAULT_HEADROOM_BYTES
) -> int:
    """The largest context, in whole pages, whose upper edge fits; 0 where not even the smallest does."""

    def fits(pages: int) -> bool:
        need = estimate.need(replace(settings, num_ctx=pages * PAGE_TOKENS))
        return judge(need, device, headroom_bytes) == "yes"

    low, high = SMALLEST_CONTEXT // PAGE_TOKENS, max(1, estimate.model.trained_context // PAGE_TOKENS)
    low = min(low, high)
    if not fits(low):
        return 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low * PAGE_TOKENS


def plan_exl(
    estimates: Sequence[Estimator],
    device: Device,
    *,
    floor: int,
    goal: int,
    pinned: int | None = None,
    bits: Sequence[CacheBits] = USUAL_BITS,
    settings: ExlSettings,
    headroom_bytes: int = DEFAULT_HEADROOM_BYTES,
) -> ExlPlan:
    """Choose: the model with most bits, with it the widest cache, that holds the task's context (`floor`) whole.

    The context is what fits up to `goal`, or the pinned one.
    """
    refused, choices = [], []
    wanted = pinned or floor
    for estimate in sorted(estimates, key=lambda e: -(bits_of(e.model).layers or 0)):
        why = why_not_loaded(estimate.model) or why_not_here(device, estimate.model.format)
        if why:
            refused.append((estimate.model.name, why))
            continue
        for width in bits:
            asked = replace(settings, bits=width)
            largest = largest_context(estimate, asked, device, headroom_bytes)
            context = pinned or max(min(largest, goal), floor)
            context = min(context, max(estimate.model.trained_context, PAGE_TOKENS))
            need = estimate.need(replace(asked, num_ctx=context))
            choices.append(ExlChoice(estimate, width, largest, need, judge(need, device, headroom_bytes)))
    chosen = next((c for c in choices if c.fits == "yes" and c.need.settings.num_ctx >= wanted), None)
    return ExlPlan(device, wanted, chosen, tuple(choices), tuple(refused))
