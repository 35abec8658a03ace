"""The host: memory, cores and disk, as much of them as this process may really use.

A container's or a service's cgroup may allow far less than the machine has. Limits hold on every level of the
cgroup tree, so each level up to the root is asked and the tightest one counts.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from qwenops.errors import BadInput, NotAllowed
from qwenops.machine.types import Host


def read_host(root: Path = Path("/")) -> Host:
    """The memory and cores of this machine, after cgroup limits and CPU affinity.

    `root` stands for the file system root whose /proc and /sys are read for the cgroups.
    """
    import psutil

    memory = psutil.virtual_memory()
    total, available = int(memory.total), int(memory.available)
    limit, room = _memory_limit(root)
    if limit is not None and limit < total:
        total = limit
    else:
        limit = None
    if room is not None:
        available = min(available, room)

    logical = _usable_cores(root)
    return Host(
        total_bytes=total,
        available_bytes=max(0, min(available, total)),
        physical_cores=_physical_cores(root, logical),
        logical_cores=logical,
        os=platform.system().lower(),
        arch=platform.machine().lower(),
        cgroup_limit_bytes=limit,
    )


def disk_free_bytes(path: Path) -> int:
    """Bytes that this user may still write below `path`, which need not exist yet.

    Raises NotAllowed when no folder above it may be looked at, BadInput when there is none.
    """
    for folder in (path, *path.absolute().parents):
        try:
            return shutil.disk_usage(folder).free
        except PermissionError as error:
            raise NotAllowed(f"{folder} may not be looked at: {error.strerror}", do=f"ls -ld {folder}") from error
        except OSError:
            continue
    raise BadInput(f"{path} is on no disk that is here")


# --- cgroups ---------------------------------------------------------------------------------------------------


def _memory_limit(root: Path) -> tuple[int | None, int | None]:
    """(the tightest limit, the smallest room left below a limit) over every level; None where nothing limits."""
    limit: int | None = None
    room: int | None = None
    for version, group in _groups(root, "memory"):
        here = _limit_v2(group) if version == 2 else _number(group / "memory.limit_in_bytes")
        if here is None:
            continue  # a v1 group without a limit says 2**63 less a page, which limits nothing either
        used = _number(group / ("memory.current" if version == 2 else "memory.usage_in_bytes")) or 0
        left = max(0, here - max(0, used - _reclaimable(group)))
        limit = here if limit is None else min(limit, here)
        room = left if room is None else min(room, left)
    return limit, room


def _limit_v2(group: Path) -> int | None:
    """memory.max, or memory.high where lower: above it the kernel throttles until the group is as good as stopped."""
    found = [n for n in (_number(group / "memory.max"), _number(group / "memory.high")) if n is not None]
    return min(found) if found else None


def _reclaimable(group: Path) -> int:
    """Page cache that the kernel gives back when memory is asked for, so that it does not count as used.

    The same sum as the kernel's own MemAvailable (mm/page_alloc.c, si_mem_available): both file lists and the
    reclaimable slab; less what still has to be written to disk.
    """
    stat: dict[str, int] = {}
    for line in _text(group / "memory.stat").splitlines():
        key, _, value = line.partition(" ")
        if value.strip().isdigit():
            stat[key] = int(value)
    prefix = "total_" if "total_inactive_file" in stat else ""  # v1 counts the children apart

    def of(*names: str) -> int:
        return sum(stat.get(prefix + name, 0) for name in names)

    clean = of("inactive_file", "active_file", "slab_reclaimable")
    return max(0, clean - of("file_dirty", "file_writeback", "dirty", "writeback"))


def _usable_cores(root: Path) -> int:
    """Cores by affinity, and by the CPU quota rounded down: more busy threads than quota only wait for each other."""
    cores = len(_affinity())
    for version, group in _groups(root, "cpu"):
        if version == 2:
            quota_text, _, period_text = _text(group / "cpu.max").strip().partition(" ")
        else:
            quota_text = _text(group / "cpu.cfs_quota_us").strip()
            period_text = _text(group / "cpu.cfs_period_us").strip()
        if quota_text.isdigit() and period_text.isdigit() and int(period_text) > 0:
            cores = min(cores, max(1, int(quota_text) // int(period_text)))
    return max(1, cores)


def _affinity() -> frozenset[int]:
    """The logical CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _physical_cores(root: Path, logical: int) -> int:
    """Distinct cores behind the usable logical CPUs, never more than `logical`."""
    cores = set()
    for cpu in _affinity():
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        core = _text(topology / "core_id").strip()
        if core:
            cores.add((_text(topology / "physical_package_id").strip(), core))
    if not cores:
        import psutil

        return max(1, min(psutil.cpu_count(logical=False) or logical, logical))
    return max(1, min(len(cores), logical))


def _groups(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """(cgroup version, folder) of this process's group and of each one above it, v1 and v2."""
    mounts = list(_cgroup_mounts(root))
    for line in _text(root / "proc/self/cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        hierarchy, controllers, path = parts
        version = 2 if hierarchy == "0" and not controllers else 1
        if version == 1 and controller not in controllers.split(","):
            continue
        for mounted_version, names, mounted, top in mounts:
            if mounted_version == version and (version == 2 or controller in names):
                yield from ((version, group) for group in _upwards(mounted, _below(path, top)))
                break


def _cgroup_mounts(root: Path) -> Iterator[tuple[int, frozenset[str], Path, str]]:
    """(version, controllers, mount point, the group that the mount point shows) from mountinfo (proc(5))."""
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        where = root / fields[4].replace("\\040", " ").lstrip("/")
        yield (2 if kind[0] == "cgroup2" else 1), frozenset(kind[2].split(",")), where, fields[3]


def _below(path: str, top: str) -> str:
    """`path` as seen from a mount that shows `top`; a container sees its own group at the mount's root."""
    if top == "/":
        return path
    if path == top or path.startswith(top + "/"):
        return path[len(top) :]
    return "/"


def _upwards(mounted: Path, path: str) -> Iterator[Path]:
    """The group and each one above it up to the mount; a path of another namespace is not there, its mount is."""
    group = mounted / path.strip("/")
    yield group
    while group != mounted:
        group = group.parent
        yield group


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None  # "max" is no limit


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
