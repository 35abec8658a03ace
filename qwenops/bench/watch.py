"""What goes on while variants are timed: memory, energy, clocks, heat, and whether anything else kept the machine busy.

Devices are read ten times a second by a thread of the parent. Of the host, two looks are enough: the kernel counts
CPU time, faults, swapping and a process's peak memory itself, and a thread that reads them all the time would take from
the CPU what it measures.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from qwenops.bench.types import Timing
from qwenops.machine.host_meters import HostReading, ProcessReading, read_host_meters, read_processes
from qwenops.machine.meters import Meter, Reading, device_meters

EVERY_S = 0.1
_KEPT_S = 3600.0
_OTHERS_CORES, _OTHERS_SHARE = 0.25, 0.05
_STEAL_SHARE = 0.02
_FAULTS = 16


@dataclass(frozen=True)
class Look:
    """The machine at one moment: before or after a turn."""

    at: float
    parent_cpu_s: float
    host: HostReading
    own: ProcessReading
    own_known: bool
    devices: dict[str, Reading]


@dataclass
class Seen:
    """What was seen of one variant in one test, over all its turns. Sizes in bytes, energy in joules."""

    wall_s: float = 0.0
    others_cpu_s: float = 0.0
    steal_s: float = 0.0
    cores: int = 1
    swapped_in_pages: int = 0
    major_faults: int = 0
    throttle_events: int = 0
    throttled: dict[str, set[str]] = field(default_factory=dict)
    power_capped: set[str] = field(default_factory=set)
    clocks_mhz: dict[str, list[int]] = field(default_factory=dict)
    temperatures_c: dict[str, float] = field(default_factory=dict)
    load_1m: float | None = None
    joules: float | None = None
    energy_tokens: int = 0
    energy_s: float = 0.0
    energy_source: str = ""

    def busy(self) -> list[dict[str, Any]]:
        """What kept the machine from giving its all, with its value and why it counts; empty where it was quiet."""
        found = []
        others = self.others_cpu_s / self.wall_s if self.wall_s else 0.0
        if others > max(_OTHERS_CORES, _OTHERS_SHARE * self.cores):
            why = f"other programs used {others:.1f} of {self.cores} cores meanwhile"
            found.append(_flag("other programs", round(others, 2), why))
        steal = self.steal_s / (self.wall_s * self.cores) if self.wall_s else 0.0
        if steal > _STEAL_SHARE:
            found.append(_flag("steal", round(steal, 4), f"the hypervisor withheld {steal:.1%} of the CPU time"))
        if self.swapped_in_pages > _FAULTS:
            found.append(_flag("swap", self.swapped_in_pages, f"{self.swapped_in_pages} pages came back from swap"))
        if self.major_faults > _FAULTS:
            found.append(
                _flag("page faults", self.major_faults, f"{self.major_faults} pages were read from disk while timed")
            )
        if self.throttle_events:
            found.append(_flag("CPU heat", self.throttle_events, f"cores were throttled {self.throttle_events} times"))
        for device, reasons in self.throttled.items():
            words = ", ".join(sorted(reasons))
            found.append(_flag(f"{device} clocks", words, f"{device} was held back: {words}"))
        return found

    def energy(self) -> dict[str, Any] | None:
        """Joules, and what follows of them; None where nothing counts energy."""
        if self.joules is None or not self.energy_source:
            return None
        tokens, watts = self.energy_tokens, self.joules / self.energy_s if self.energy_s else 0.0
        return {
            "joules": self.joules,
            "watts": watts,
            "joules_per_1000_tokens": self.joules / tokens * 1000 if tokens else None,
            "tokens_per_second_per_watt": tokens / self.joules if tokens and self.joules else None,
            "source": self.energy_source,
        }

    def as_data(self) -> dict[str, Any]:
        """The figures behind `busy`, as plain JSON values."""
        return {
            "seconds": self.wall_s,
            "others_cores": self.others_cpu_s / self.wall_s if self.wall_s else 0.0,
            "steal_share": self.steal_s / (self.wall_s * self.cores) if self.wall_s else 0.0,
            "load_1m": self.load_1m,
            "major_faults": self.major_faults,
            "swapped_in_pages": self.swapped_in_pages,
            "clocks_mhz": {name: [min(c), max(c)] for name, c in self.clocks_mhz.items()},
            "temperatures_c": dict(self.temperatures_c),
            "power_capped": sorted(self.power_capped),
        }


@dataclass
class Held:
    """The most memory that one variant held. Of a device, what its processes hold or what it grew by.

    `idle_bytes` of `host_bytes` are the program's own, held before the model came.
    """

    host_bytes: int | None = None
    idle_bytes: int = 0
    private_bytes: int | None = None
    file_bytes: int | None = None
    shared_bytes: int | None = None
    device_bytes: dict[str, int] = field(default_factory=dict)

    def take(self, own: ProcessReading) -> None:
        """Take in a look at the variant's processes."""
        pairs = (
            ("host_bytes", own.peak_bytes),
            ("private_bytes", own.private_bytes),
            ("file_bytes", own.file_bytes),
            ("shared_bytes", own.shared_bytes),
        )
        for name, value in pairs:
            if value is not None:
                setattr(self, name, max(getattr(self, name) or 0, value))

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values, as the history keeps them."""
        return {
            "peak_host_bytes": self.host_bytes,
            "idle_host_bytes": self.idle_bytes,
            "private_host_bytes": self.private_bytes,
            "mapped_file_bytes": self.file_bytes,
            "proportional_host_bytes": self.shared_bytes,
            "peak_device_bytes": dict(self.device_bytes) or None,
        }


class Watch(AbstractContextManager["Watch"]):
    """Follows the devices for the length of a run, and looks at the host when it is asked."""

    def __init__(self, meters: Sequence[Meter] | None = None) -> None:
        self.meters = device_meters() if meters is None else list(meters)
        self._kept: list[tuple[float, dict[str, Reading]]] = []
        self._joules = dict.fromkeys((m.name for m in self.meters), 0.0)
        self._series: dict[str, list[tuple[float, float]]] = {m.name: [] for m in self.meters}
        self._pids: frozenset[int] = frozenset()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Watch:
        if self.meters:
            self._sample()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)

    def look(self, pids: frozenset[int] = frozenset()) -> Look:
        """The machine now, with what these processes hold."""
        self._pids = pids
        with self._lock:
            devices = self._sample_now() if self.meters else {}
        return Look(
            time.monotonic(), time.process_time(), read_host_meters(), read_processes(pids), bool(pids), devices
        )

    def turn(self, seen: Seen, before: Look, after: Look, timings: Iterable[Timing], names: Sequence[str]) -> None:
        """Add to `seen` what happened between two looks, of which `timings` were timed on the devices `names`."""
        import psutil

        wall = after.at - before.at
        ours = after.own.cpu_s - before.own.cpu_s + after.parent_cpu_s - before.parent_cpu_s
        seen.wall_s += wall
        seen.cores = psutil.cpu_count() or 1
        if after.own_known:  # else the model's own work would count as somebody else's
            seen.others_cpu_s += max(0.0, after.host.busy_s - before.host.busy_s - ours)
        seen.steal_s += after.host.steal_s - before.host.steal_s
        seen.swapped_in_pages += after.host.swapped_in_pages - before.host.swapped_in_pages
        seen.throttle_events += after.host.throttle_events - before.host.throttle_events
        seen.load_1m = max(filter(None, (seen.load_1m, after.host.load_1m)), default=None)
        _warmest(seen, "CPU", after.host.temperature_c)
        if after.host.clock_mhz:
            seen.clocks_mhz.setdefault("CPU", []).append(round(after.host.clock_mhz))
        timed = list(timings)
        seen.major_faults += sum(timing.major_faults for timing in timed)
        for name, reading in self._between(before.at, after.at):
            if reading.clock_mhz is not None:
                seen.clocks_mhz.setdefault(name, []).append(reading.clock_mhz)
            _warmest(seen, name, reading.temperature_c)
            if reading.throttled:
                seen.throttled.setdefault(name, set()).update(reading.throttled)
            if reading.power_capped:
                seen.power_capped.add(name)
        for timing in timed:
            self._energy(seen, timing, names)

    def hold(self, held: Held, before: Look, after: Look, already: dict[str, int]) -> None:
        """Add to `held` the most that a variant held between two looks.

        `already` is what it held of each device when the first look was taken; where the driver says which process
        holds how much, that counts, and else by how much the device's use rose.
        """
        held.take(after.own)
        for name, reading in self._between(before.at, after.at):
            grown = reading.own_bytes
            start = before.devices.get(name)
            if grown is None and reading.used_bytes is not None and start and start.used_bytes is not None:
                grown = reading.used_bytes - start.used_bytes + already.get(name, 0)
            if grown is not None:
                held.device_bytes[name] = max(held.device_bytes.get(name, 0), grown, 0)

    def _energy(self, seen: Seen, timing: Timing, names: Sequence[str]) -> None:
        wanted = [m.name for m in self.meters if not names or m.name in names]
        found = [self._joules_between(name, timing.began, timing.ended) for name in wanted]
        known = [one for one in found if one is not None]
        if not known or len(known) < len(found):
            return
        seen.joules = (seen.joules or 0.0) + sum(known)
        seen.energy_tokens += timing.tokens
        seen.energy_s += timing.ended - timing.began
        seen.energy_source = self._source(wanted)

    def _joules_between(self, name: str, began: float, ended: float) -> float | None:
        with self._lock:
            series = list(self._series[name])
        if len(series) < 2 or series[0][0] > began:
            return None
        return _at(series, ended) - _at(series, began)

    def _source(self, names: Sequence[str]) -> str:
        with self._lock:
            last = self._kept[-1][1] if self._kept else {}
        counted = all(last[name].energy_j is not None for name in names if name in last)
        return "NVML energy counter" if counted else "power, integrated"

    def _between(self, began: float, ended: float) -> list[tuple[str, Reading]]:
        with self._lock:
            kept = [one for at, one in self._kept if began <= at <= ended]
        return [(name, reading) for one in kept for name, reading in one.items()]

    def _follow(self) -> None:
        while not self._over.wait(EVERY_S):
            self._sample()

    def _sample(self) -> None:
        with self._lock:
            self._sample_now()

    def _sample_now(self) -> dict[str, Reading]:
        now = time.monotonic()
        readings = {meter.name: meter.read(self._pids) for meter in self.meters}
        for name, reading in readings.items():
            series = self._series[name]
            if reading.energy_j is not None:
                series.append((now, reading.energy_j))
            elif reading.power_w is not None:
                before = self._kept[-1] if self._kept else None
                earlier = before[1][name].power_w if before else None
                if before and earlier is not None:
                    self._joules[name] += (now - before[0]) * (earlier + reading.power_w) / 2
                series.append((now, self._joules[name]))
        self._kept.append((now, readings))
        if self._kept[0][0] < now - 2 * _KEPT_S:
            self._kept = [one for one in self._kept if one[0] >= now - _KEPT_S]
            self._series = {n: [p for p in s if p[0] >= now - _KEPT_S] for n, s in self._series.items()}
        return readings


def _at(series: Sequence[tuple[float, float]], when: float) -> float:
    """A counter at a moment between two of its readings."""
    i = min(max(bisect_left(series, (when,)), 1), len(series) - 1)
    (t0, e0), (t1, e1) = series[i - 1], series[i]
    return e0 + (e1 - e0) * (when - t0) / (t1 - t0) if t1 > t0 else e1


def _warmest(seen: Seen, name: str, heat: float | None) -> None:
    if heat is not None:
        seen.temperatures_c[name] = max(seen.temperatures_c.get(name, heat), heat)


def _flag(what: str, value: Any, why: str) -> dict[str, Any]:
    return {"what": what, "value": value, "why": why}
