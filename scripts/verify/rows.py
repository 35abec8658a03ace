"""What was said before a load, what its log showed, and every way in which the two differ more than they may.

runtime probe   each part on each device and the host's cache, state and compute within 1 MiB of their buffers, the
                projector exact and its encoder within 3 %, the layers exactly those that were loaded
closed form     weights, cache, state and projector exact; the device total at most 5 % above the buffers, never
                below by more than 1 % (1 MiB where that is more); the layers those that were loaded
verdict         whether the runtime's own fit keeps every layer, where its limit is near: right by the probe; by
                the closed form right or, where the limit lies inside its band, "too close"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from qwenops.memory.buffer_lines import BufferKind
from qwenops.memory.load_log import LoadLines
from qwenops.memory.types import Need
from qwenops.units import MIB
from scripts.verify.cases import SHAPES, Case

PARTS = ("weights", "kv", "state", "compute", "projector", "encoder")
EXACT_PARTS = ("weights", "kv", "state", "projector")
HOST_PARTS = ("kv", "state", "compute", "encoder")
# The log's own rounding: a hundredth of a MiB a line, and a part has at most three lines on a device.
ROUNDING = 0.016 * MIB
CLOSE_PERCENT = 3.0
_KINDS: dict[str, BufferKind] = {"weights": "model", "kv": "KV", "state": "RS", "compute": "compute"}

Sizes = dict[str, int]


@dataclass(frozen=True)
class Said:
    """One rung's answer: bytes by device and part, the host's parts, the layers placed, the edges of the total."""

    devices: dict[str, Sizes]
    host: Sizes
    layers: tuple[int, int]
    low: int
    high: int

    @property
    def total(self) -> int:
        """The sum over all devices."""
        return sum(sum(parts.values()) for parts in self.devices.values())


@dataclass(frozen=True)
class Verdict:
    """Whether every layer fits: what is needed for that by the probe, the limit of the fit, and who said what."""

    need_bytes: int
    limit_bytes: int
    probe_keeps: bool
    formula: str
    formula_keeps: bool

    @property
    def close(self) -> bool:
        """Whether the need lies within 3 % of the limit."""
        return abs(self.need_bytes - self.limit_bytes) <= self.limit_bytes * CLOSE_PERCENT / 100


@dataclass(frozen=True)
class Loaded:
    """The buffers of one load, in the same parts."""

    devices: dict[str, Sizes]
    host: Sizes
    layers: tuple[int, int] | None
    overflowing: int = 0
    error: str = ""

    @property
    def total(self) -> int:
        """The sum over all devices."""
        return sum(sum(parts.values()) for parts in self.devices.values())

    @property
    def kept(self) -> bool:
        """Whether every layer was loaded on devices, whole."""
        return self.layers is not None and self.layers[0] == self.layers[1] and not self.overflowing


@dataclass(frozen=True)
class Row:
    """A case with the context and the fit target that were in force, the two answers, and the load."""

    case: Case
    num_ctx: int
    target_mib: int | None
    probe: Said
    formula: Said
    loaded: Loaded
    verdict: Verdict | None = None
    replayed: bool = True
    seconds: float = 0
    versions: str = ""
    notes: list[str] = field(default_factory=list)
    ghosts: tuple[str, str | None] = ("", None)

    @property
    def stale(self) -> bool:
        """Whether the files were others than the case has now, or nobody knows the shape any more."""
        return self.case.shape not in SHAPES or self.ghosts != self.case.ghosts

    def probe_errors(self) -> dict[str, int]:
        """The probe's figure less the buffer, by part."""
        errors = _device_errors(self.probe, self.loaded)
        return errors | {f"host {p}": self.probe.host[p] - self.loaded.host[p] for p in HOST_PARTS}

    def formula_errors(self) -> dict[str, int]:
        """The closed form's figure less the buffer, by part of each device."""
        return _device_errors(self.formula, self.loaded)

    @property
    def formula_error(self) -> int:
        """The closed form's total over the devices less the buffers'."""
        return self.formula.total - self.loaded.total

    @property
    def in_band(self) -> bool:
        """Whether the closed form's band contains what was loaded."""
        return self.formula.low - ROUNDING <= self.loaded.total <= self.formula.high + ROUNDING

    def faults(self) -> list[str]:
        """Every way in which this row breaks the bar."""
        if self.loaded.error or self.loaded.layers is None:
            return [f"it did not load: {self.loaded.error or 'no buffers in the log'}"]
        return [*self._probe_faults(), *self._formula_faults(), *self._verdict_faults()]

    def _probe_faults(self) -> list[str]:
        bars = dict.fromkeys(self.probe_errors(), float(MIB))
        for name, parts in self.loaded.devices.items():
            bars[_key(name, "projector", self.loaded)] = ROUNDING
            bars[_key(name, "encoder", self.loaded)] = max(parts["encoder"] * 0.03, ROUNDING)
        faults = [
            f"probe: {part} off by {error / MIB:+.2f} MiB"
            for part, error in self.probe_errors().items()
            if abs(error) > bars[part]
        ]
        if self.probe.layers != self.loaded.layers:
            faults.append(f"probe: {said(self.probe.layers)} layers, the log has {said(self.loaded.layers)}")
        return faults

    def _formula_faults(self) -> list[str]:
        faults = [
            f"closed form: {part} off by {error / MIB:+.2f} MiB"
            for part, error in self.formula_errors().items()
            if part.split()[-1] in EXACT_PARTS and abs(error) > ROUNDING
        ]
        if self.formula.layers != self.loaded.layers:
            faults.append(f"closed form: {said(self.formula.layers)} layers")
        total, error = self.loaded.total, self.formula_error
        if error > max(total * 0.05, MIB):
            faults.append(f"closed form: off by {error / MIB:+.2f} MiB")
        if error < -max(total * 0.01, MIB):
            faults.append(f"closed form: short by {-error / MIB:.2f} MiB")
        return faults

    def _verdict_faults(self) -> list[str]:
        if self.verdict is None:
            return []
        kept, faults = self.loaded.kept, []
        if self.verdict.probe_keeps != kept:
            faults.append(f"probe: it said {verdict_word(self.verdict.probe_keeps)}")
        if self.verdict.formula != "too close" and (self.verdict.formula == "yes") != kept:
            faults.append(f"closed form: it said {verdict_word(self.verdict.formula == 'yes')}")
        return faults

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values, which from_data turns back."""
        return asdict(self)

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> Row:
        """The row that was kept."""
        values: dict[str, Any] = dict(data)
        loaded, verdict = values["loaded"], values["verdict"]
        values |= {name: Said(**{**data[name], "layers": tuple(data[name]["layers"])}) for name in ("probe", "formula")}
        values["loaded"] = Loaded(**{**loaded, "layers": tuple(loaded["layers"]) if loaded["layers"] else None})
        values["verdict"] = Verdict(**verdict) if verdict else None
        text, eyes = values["ghosts"]
        return Row(**{**values, "case": Case(**data["case"]), "ghosts": (text, eyes)})


def said_by(need: Need) -> Said:
    """A need in the parts that are compared: what lies outside every buffer is left out."""
    devices = {d.name: {part: getattr(d, f"{part}_bytes") for part in PARTS} for d in need.devices}
    outside = sum(d.overhead_bytes + d.draft_bytes for d in need.devices)
    return Said(
        devices=devices,
        host={part: getattr(need.host, f"{part}_bytes") for part in HOST_PARTS},
        layers=(need.layers.on_device, need.layers.total),
        low=need.band.low - outside,
        high=need.band.high - outside,
    )


def loaded_from(lines: LoadLines, devices: tuple[str, ...]) -> Loaded:
    """The buffers in a log, by device and part."""

    def parts(name: str) -> Sizes:
        of_text = {part: lines.device_bytes(name, kind) for part, kind in _KINDS.items()}
        encoder = lines.device_bytes(name, "compute", projector=True)
        return of_text | {"projector": lines.projector_bytes(name), "encoder": encoder}

    layers = lines.layers
    complete = lines.complete and layers is not None
    return Loaded(
        devices={name: parts(name) for name in devices},
        host={
            "kv": lines.host_bytes("KV"),
            "state": lines.host_bytes("RS"),
            "compute": lines.host_bytes("compute"),
            "encoder": lines.host_bytes("compute", projector=True),
        },
        layers=(layers.on_device, layers.total) if layers else None,
        overflowing=lines.overflowing_layers,
        error="" if complete else (lines.error or "no buffers in the log")[-200:],
    )


def refused(case: Case, why: str) -> Row:
    """The row of a case that could not be asked about."""
    nothing = Said({}, dict.fromkeys(HOST_PARTS, 0), (0, 0), 0, 0)
    loaded = Loaded({}, dict.fromkeys(HOST_PARTS, 0), None, error=why)
    return Row(case, case.num_ctx, None, probe=nothing, formula=nothing, loaded=loaded, ghosts=case.ghosts)


def said(layers: tuple[int, int] | None) -> str:
    """Layers as the page shows them."""
    return f"{layers[0]}/{layers[1]}" if layers else "?"


def verdict_word(keeps: bool) -> str:
    """A verdict in words."""
    return "every layer fits" if keeps else "it spills"


def _device_errors(answer: Said, loaded: Loaded) -> dict[str, int]:
    return {
        _key(name, part, loaded): answer.devices.get(name, {}).get(part, 0) - size
        for name, parts in loaded.devices.items()
        for part, size in parts.items()
    }


def _key(device: str, part: str, loaded: Loaded) -> str:
    return part if len(loaded.devices) == 1 else f"{device} {part}"
