"""How many layers the runtime's own fit would place: full if it fits, else fewer from the back, experts first to go.

A replay of common_params_fit_impl (common/fit.cpp, llama.cpp b10434) with the context given: it tries every layer on
the devices; for a mixture of experts it then moves the experts of all blocks to the host; it fills the devices from the
last to the first by false position. Of a mixture it then makes whole blocks from the first device on, and leaves part
of one more block of each device to the next one, or to the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from qwenops.machine.types import Device
from qwenops.memory.placement import Overflow, Placement, place

# what stays on the host of one block, by how its names begin (LAYER_FRACTION_ATTN, _UP, _GATE)
_ALL = ("ffn_gate", "ffn_up", "ffn_down")
_ALL_BUT_UP = ("ffn_gate", "ffn_down")
_DOWN = ("ffn_down",)

Measure = Callable[[Placement], Sequence[int]]


@dataclass(frozen=True)
class _Fill:
    """Layers of each device, and how many of the last of them leave their experts on the host.

    Of the first of these, `leaving` names what leaves the device instead, where something else was found to fit.
    """

    layers: tuple[int, ...]
    partial: tuple[int, ...]
    leaving: tuple[tuple[str, ...], ...]

    def replaced(self, device: int, layers: int, partial: int) -> _Fill:
        return replace(self, layers=_put(self.layers, device, layers), partial=_put(self.partial, device, partial))

    def with_leaving(self, device: int, prefixes: tuple[str, ...]) -> _Fill:
        return replace(self, leaving=(*self.leaving[:device], prefixes, *self.leaving[device + 1 :]))


class Fit:
    """One search. `measure` gives the bytes that each device must hold under a placement."""

    def __init__(
        self,
        blocks: int,
        devices: Sequence[Device],
        targets: Sequence[int],
        *,
        mixture: bool,
        measure: Measure,
        draft_blocks: int = 0,
    ) -> None:
        self._blocks = blocks
        # The search counts the layers that llama_model_n_layer gives, without the blocks of a draft head, and yet
        # places them from the end: it leaves as many first blocks on the host.
        self._reach = blocks - draft_blocks + 1
        self._devices = devices
        self._targets = targets
        self._mixture = mixture
        self._measure = lru_cache(maxsize=None)(measure)

    def placement(self) -> Placement:
        """The placement that meets every target, as full as the runtime would make it."""
        full = place(self._blocks, self._blocks + 1, self._devices)
        if all(used <= target for used, target in zip(self._measure(full), self._targets, strict=True)):
            return full
        none = _Fill((0,) * len(self._devices), (0,) * len(self._devices), ((),) * len(self._devices))
        filled = self._fill_back_to_front(none)
        if not self._mixture or sum(filled.layers) < self._reach:
            return self._placed(filled)
        return self._placed(self._give_experts_back(filled))

    def _with_part_of_a_block(self, fill: _Fill, device: int, source: int) -> _Fill:
        """One more block of the source on a device but for a part of it, as small a part as fits elsewhere."""
        last = len(self._devices) - 1
        if not fill.partial[source] or fill.layers[source] <= (1 if device == last else 0):
            return fill
        moved = fill.replaced(source, fill.layers[source] - 1, fill.partial[source] - 1)
        moved = moved.replaced(device, moved.layers[device] + 1, moved.partial[device] + 1)

        def fitting(prefixes: tuple[str, ...]) -> _Fill | None:
            tried = moved.with_leaving(device, prefixes)
            used = self._measure(self._placed(tried))
            fits = all(used[d] < self._targets[d] for d in (device, min(device + 1, last)))
            return tried if fits else None

        up = fitting(_ALL_BUT_UP)
        if up is None:
            return fitting(_ALL) or fill
        return fitting(_DOWN) or up

    def _placed(self, fill: _Fill) -> Placement:
        total = sum(fill.layers)
        first = self._reach - total
        host_experts: set[int] = set()
        overflows: list[Overflow] = []
        for device, (layers, left, leaving) in enumerate(zip(fill.layers, fill.partial, fill.leaving, strict=True)):
            first += layers
            host_experts.update(range(first - left, first))
            if leaving and left:
                host_experts.remove(first - left)
                overflows.append(Overflow(first - left, leaving, device + 1))  # the host's number follows the last's
        shares = fill.layers if total else None
        placed = place(
            self._blocks, total, self._devices, shares=shares, host_experts=frozenset(host_experts - {self._blocks})
        )
        return replace(placed, overflows=tuple(overflows))

    def _fill_back_to_front(self, fill: _Fill) -> _Fill:
        last = len(self._devices) - 1
        for device in range(last, -1, -1):
            unplaced = self._reach - sum(fill.layers[device + 1 :])
            whole = 1 if device == last else 0  # the output layer has no experts to leave behind
            make = partial(self._with_layers, fill, device, whole)
            fill = make(self._most(unplaced, make, device))
        return fill

    def _with_layers(self, fill: _Fill, device: int, whole: int, n: int) -> _Fill:
        return fill.replaced(device, n, max(0, n - whole) if self._mixture else 0)

    def _give_experts_back(self, fill: _Fill) -> _Fill:
        """All blocks are placed without experts: make whole ones of them in front, device by device, until it is full.

        A block that becomes whole goes to the device that has room for it, from the first device that has blocks
        without experts.
        """
        source = next(device for device, layers in enumerate(fill.layers) if layers)
        for device in range(len(fill.layers)):
            if device > source:
                break
            make = partial(self._with_whole, fill, device, source)
            left = sum(fill.partial[source:])
            fill = make(self._most(left, make, device))
            source = self._next_source(fill, source)
            fill = self._with_part_of_a_block(fill, device, source)
            source = self._next_source(fill, source) if source != device else source
        return fill

    def _next_source(self, fill: _Fill, source: int) -> int:
        return next((d for d in range(source, len(fill.partial)) if fill.partial[d]), len(fill.partial) - 1)

    def _with_whole(self, fill: _Fill, device: int, source: int, n: int) -> _Fill:
        for giver in range(source, len(fill.layers)):
            moved = min(n, fill.partial[giver])
            fill = fill.replaced(giver, fill.layers[giver] - moved, fill.partial[giver] - moved)
            fill = fill.replaced(device, fill.layers[device] + moved, fill.partial[device])
            n -= moved
        return fill

    def _most(self, limit: int, make: Callable[[int], _Fill], device: int) -> int:
        """The largest number that fits, by false position as the runtime searches it."""

        def used(n: int) -> int:
            return self._measure(self._placed(make(n)))[device]

        target = self._targets[device]
        if limit <= 0 or used(limit) <= target:
            return max(limit, 0)
        low, high = 0, limit
        low_bytes, high_bytes = used(0), used(limit)
        while high - low > 1:
            span = max(1, high_bytes - low_bytes)
            step = (high - low) * (target - low_bytes) // span
            middle = low + min(max(step, 1), high - low - 1)
            bytes_there = used(middle)
            if bytes_there <= target:
                low, low_bytes = middle, bytes_there
            else:
                high, high_bytes = middle, bytes_there
        return low


def _put(values: tuple[int, ...], at: int, value: int) -> tuple[int, ...]:
    return (*values[:at], value, *values[at + 1 :])
