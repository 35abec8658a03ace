"""What the host and single processes do at this moment, to tell a quiet machine from a busy one.

Nothing here raises: what the kernel does not say is None.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from qwenops.machine.kernel_files import read_number, read_text


@dataclass(frozen=True)
class HostReading:
    """One look at the host; times in seconds since it started, over all its CPUs."""

    busy_s: float
    steal_s: float
    swapped_in_pages: int
    throttle_events: int
    temperature_c: float | None
    clock_mhz: float | None
    load_1m: float | None


def read_host_meters(root: Path = Path("/")) -> HostReading:
    """The host now: a handful of small files, some 0.3 ms."""
    import os

    import psutil

    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    steal = getattr(times, "steal", 0.0)
    # guest time is counted in user time already (proc(5))
    doubled = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    throttles = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    heats = [read_number(zone) for zone in (root / "sys/class/thermal").glob("thermal_zone*/temp")]
    heat = max((one for one in heats if one is not None), default=None)
    load: float | None = None
    with contextlib.suppress(OSError, AttributeError):
        load = os.getloadavg()[0]
    return HostReading(
        busy_s=sum(times) - doubled - idle - steal,
        steal_s=steal,
        swapped_in_pages=_vmstat(root).get("pswpin", 0),
        throttle_events=sum(read_number(one) or 0 for one in throttles),
        temperature_c=None if heat is None else heat / 1000,
        clock_mhz=_clock(root),
        load_1m=load,
    )


@dataclass(frozen=True)
class ProcessReading:
    """One look at processes together: CPU seconds, and the most host memory that each has held since it started.

    `shared_bytes` is their proportional share of what they hold now (PSS), None where that cannot be read.
    """

    cpu_s: float
    peak_bytes: int | None
    private_bytes: int | None
    file_bytes: int | None
    shared_bytes: int | None


def read_processes(pids: frozenset[int]) -> ProcessReading:
    """Processes by /proc: the kernel notes the peak itself, so that nothing between two looks is missed.

    Memory of a device that a process has mapped is the driver's, and not in these figures. Elsewhere than on Linux
    what psutil says now.
    """
    import psutil

    cpu, statuses, shares = 0.0, [], []
    for pid in pids:
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            used = process.cpu_times()
            cpu += used.user + used.system
            status = _status(pid)
            if not status:
                peak = getattr(process.memory_info(), "peak_wset", process.memory_info().rss)
                status = {"VmHWM": int(peak)}
            statuses.append(status)
            shares.append(_pss(pid))

    def total(*words: str) -> int | None:
        found = [sum(one[word] for word in words) for one in statuses if all(word in one for word in words)]
        return sum(found) if found else None

    pss = [one for one in shares if one is not None]
    return ProcessReading(cpu, total("VmHWM"), total("RssAnon"), total("RssFile"), sum(pss) if pss else None)


def _status(pid: int) -> dict[str, int]:
    """Sizes in bytes of /proc/PID/status."""
    found: dict[str, int] = {}
    for line in read_text(Path(f"/proc/{pid}/status")).splitlines():
        word, _, value = line.partition(":")
        parts = value.split()
        if len(parts) == 2 and parts[1] == "kB" and parts[0].isdigit():
            found[word] = int(parts[0]) * 1024
    return found


def _pss(pid: int) -> int | None:
    for line in read_text(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return None


def _vmstat(root: Path) -> dict[str, int]:
    pairs = (line.partition(" ") for line in read_text(root / "proc/vmstat").splitlines())
    return {word: int(value) for word, _, value in pairs if value.isdigit()}


def _clock(root: Path) -> float | None:
    """The fastest core's clock, in MHz."""
    found = [read_number(one) for one in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")]
    known = [one for one in found if one]
    return max(known) / 1000 if known else None
