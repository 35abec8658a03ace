"""From what a library said in a dry load to the parts of a need, exact or spread over devices that it cannot see.

Under no_alloc the log is right about compute, output and recurrent state of each place and about the whole of every
cache, and says 0 for weights and for each place's cache: those are in the library's breakdown, where it can be read
(src/llama-context.cpp, llama-kv-cache.cpp and llama-ext.h of llama-cpp-python 0.3.36).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qwenops.memory.load_log import LoadLines, parse_load_log
from qwenops.memory.types import Band, DeviceNeed, HostNeed, Need
from qwenops.units import MIB

_CACHE = re.compile(r"llama_(kv_cache|memory_recurrent)\S*: size =\s*([\d.]+) MiB \(")
# A logged size is rounded to a hundredth of a MiB; twice that is the most by which the same figure may differ.
_ROUNDING = MIB // 50
_EXACT_SLACK = MIB // 16


@dataclass(frozen=True)
class Parts:
    """What one place holds, in bytes; weights and context are None where the library does not say them of one place.

    `context` is cache and state together; `state` is its part as logged, to a hundredth of a MiB.
    """

    weights: int | None
    context: int | None
    state: int
    compute: int


@dataclass(frozen=True)
class Said:
    """One context of a dry load: its places (None is the host), the caches' totals and the log's other lines."""

    places: Mapping[str | None, Parts]
    kv_bytes: int
    state_bytes: int
    lines: LoadLines


def read_said(load: Mapping[str, Any]) -> Said:
    """What the child answered for one context: its `log` and its `breakdown`, which may be None."""
    lines = parse_load_log("\n".join(load["log"]))
    totals = _cache_totals(load["log"])
    return Said(_places(load["breakdown"], lines, sum(totals.values())), totals["kv"], totals["state"], lines)


def _cache_totals(log: Sequence[str]) -> dict[str, int]:
    """The caches' own totals: of all places together, and right without memory too."""
    totals = {"kv": 0, "state": 0}
    for line in log:
        if match := _CACHE.search(line):
            totals["kv" if match[1] == "kv_cache" else "state"] += round(float(match[2]) * MIB)
    return totals


def _places(
    breakdown: Sequence[Mapping[str, Any]] | None, lines: LoadLines, context_bytes: int
) -> dict[str | None, Parts]:
    """By device (None is the host) what it holds: from the breakdown where the log bears it out, else from the log."""
    names = (None, *dict.fromkeys(b.device for b in lines.buffers if not b.on_host))
    state = {n: lines.host_bytes("RS") if n is None else lines.device_bytes(n, "RS") for n in names}
    compute = {n: lines.host_bytes("compute") if n is None else lines.device_bytes(n, "compute") for n in names}
    if breakdown is None or not _borne_out(breakdown, context_bytes, sum(compute.values())):
        return {n: Parts(None, None, state[n], compute[n]) for n in names}
    sums: dict[str | None, list[int]] = {}
    for row in breakdown:
        place = sums.setdefault(row["device"], [0, 0, 0])
        for i, part in enumerate(("model", "context", "compute")):
            place[i] += row[part]
    return {
        name: Parts(weights, context, state.get(name, 0), computed)
        for name, (weights, context, computed) in sums.items()
    }


def _borne_out(breakdown: Sequence[Mapping[str, Any]], context: int, compute: int) -> bool:
    slack = _ROUNDING * (len(breakdown) + 2)
    logged = {"context": context, "compute": compute}
    return all(abs(sum(int(row[part]) for row in breakdown) - total) <= slack for part, total in logged.items())


# --- from there to a need


def exact_need(formula: Need, said: Said, version: str) -> Need:
    """The library has a backend for every device: each part is its own, or the whole of it spread by the formula."""
    kv_by_formula = formula.host.kv_bytes + sum(d.kv_bytes for d in formula.devices)

    def filled(name: str | None, known: DeviceNeed | HostNeed) -> dict[str, Any]:
        here = said.places.get(name, Parts(0, 0, 0, 0))
        # The log rounds; the formula is the finer figure where both agree.
        state = known.state_bytes if abs(known.state_bytes - here.state) <= _ROUNDING else here.state
        if here.context is None:
            kv = _scaled(known.kv_bytes, said.kv_bytes, kv_by_formula)
        elif said.kv_bytes:
            kv = max(0, here.context - state)
        else:
            kv, state = 0, here.context
        weights = known.weights_bytes if here.weights is None else here.weights
        if not formula.devices and formula.settings.mmap:
            # A tied head that is a tensor of its own is counted twice, and lies in the same mapped bytes.
            weights = min(weights, known.weights_bytes)
        return {
            "weights_bytes": weights,
            "kv_bytes": kv,
            "state_bytes": state,
            "compute_bytes": here.compute,
        }

    devices = tuple(replace(d, **filled(d.name, d)) for d in formula.devices)
    host = replace(formula.host, **filled(None, formula.host), output_bytes=_output(formula.host, said.lines))
    sources = _sources(formula, "weights", "kv", "state", "compute")
    if any(p.weights is None for p in said.places.values()):
        sources["weights"] = "closed form"
    return replace(
        formula,
        rung="dry load",
        devices=devices,
        host=host,
        band=_band(devices, formula),
        sources=sources,
        notes=(*formula.notes, f"loaded without memory by llama-cpp-python {version}"),
        flash_attn=formula.flash_attn if said.lines.flash_attn is None else said.lines.flash_attn,
    )


def spread_need(formula: Need, said: Said, on_host: HostNeed, version: str) -> Need:
    """The library has no backend for the devices: its totals, spread as the formula spreads its own.

    `on_host` is the formula's host when everything is there, as it was for the library.
    """
    weights = said.places[None].weights if None in said.places else None
    totals = {"weights": weights, "kv": said.kv_bytes, "state": said.state_bytes}
    by_formula = {part: int(getattr(on_host, f"{part}_bytes")) for part in totals}
    # What the formula knows nothing of it cannot place.
    told = {part: total for part, total in totals.items() if total is not None and (by_formula[part] or not total)}
    # Totals in the log are rounded: where the formula rounds to the same figure it is the finer one.
    ratio = {
        part: (1, 1) if abs(total - by_formula[part]) <= _ROUNDING else (total, by_formula[part])
        for part, total in told.items()
    }

    def filled(known: DeviceNeed | HostNeed) -> dict[str, Any]:
        return {f"{part}_bytes": _scaled(getattr(known, f"{part}_bytes"), *of) for part, of in ratio.items()}

    devices = tuple(replace(d, **filled(d)) for d in formula.devices)
    more = sum(d.total_bytes for d in devices) - formula.total_device_bytes
    return replace(
        formula,
        rung="dry load",
        devices=devices,
        host=replace(formula.host, **filled(formula.host)),
        band=Band(max(0, formula.band.low + more), formula.band.high + more),
        sources=_sources(formula, *told),
        notes=(
            *formula.notes,
            f"llama-cpp-python {version} has no backend for {formula.devices[0].name}: its sizes are spread over the "
            "devices as the formula places them, and compute is the formula's",
        ),
    )


def _sources(formula: Need, *asked: str) -> dict[str, str]:
    return {**formula.sources, **dict.fromkeys(asked, "dry load")}


def _band(devices: Sequence[DeviceNeed], formula: Need) -> Band:
    """Exact for the library's own build; where a server will load the model its build may be another one, and the
    band reaches as far as the formula's, which is made for the server's."""
    total = sum(d.total_bytes for d in devices)
    slack = len(devices) * _EXACT_SLACK + sum(d.encoder_bytes for d in devices) * 3 // 100
    low, high = max(0, total - slack), total + slack
    if formula.settings.outputs == "server":
        low, high = min(low, formula.band.low), max(high, formula.band.high)
    return Band(low, high)


def _scaled(part: int, total: int, known_total: int) -> int:
    return part * total // known_total if known_total else 0


def _output(host: HostNeed, lines: LoadLines) -> int:
    """The buffer of the logits; the log rounds it, and the formula is the finer figure where both agree."""
    logged = lines.host_bytes("output") + sum(lines.device_bytes(d, "output") for d in lines.devices)
    return host.output_bytes if not logged or abs(logged - host.output_bytes) <= _ROUNDING else logged
