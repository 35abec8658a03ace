"""What of the host may be used, with cgroup trees as kernels and containers show them."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from qwenops.errors import NotAllowed
from qwenops.machine.host import disk_free_bytes, read_host
from tests.support.user import ordinary_user

MIB = 1024**2
GIB = 1024**3
V2 = "30 23 0:26 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def v2(root: Path, group: str, files: dict[str, str], top: str = "/") -> None:
    write(root, {"proc/self/cgroup": f"0::{group}\n", "proc/self/mountinfo": V2.format(top=top)})
    write(root, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})


def test_without_cgroups_the_host_is_what_the_system_says(root: Path) -> None:
    host = read_host(root)
    assert host.total_bytes == psutil.virtual_memory().total
    assert host.cgroup_limit_bytes is None
    assert 0 < host.available_bytes <= host.total_bytes
    assert host.logical_cores == len(os.sched_getaffinity(0))
    assert 1 <= host.physical_cores <= host.logical_cores
    assert (host.os, host.arch) == (os.uname().sysname.lower(), os.uname().machine.lower())


def test_the_real_root_answers_too() -> None:
    host = read_host()
    assert 0 < host.available_bytes <= host.total_bytes <= psutil.virtual_memory().total


def test_a_limit_is_the_total_and_page_cache_does_not_count_as_used(root: Path) -> None:
    v2(
        root,
        "/app",
        {
            "app/memory.max": f"{GIB}\n",
            "app/memory.high": "max\n",
            "app/memory.current": f"{900 * MIB}\n",
            "app/memory.stat": f"anon {300 * MIB}\ninactive_file {400 * MIB}\nactive_file {150 * MIB}\n"
            f"slab_reclaimable {50 * MIB}\nfile_dirty {20 * MIB}\nfile_writeback {5 * MIB}\n",
        },
    )
    host = read_host(root)
    assert host.total_bytes == host.cgroup_limit_bytes == GIB
    assert host.available_bytes == (1024 - (900 - (400 + 150 + 50 - 25))) * MIB


@pytest.mark.parametrize(
    ("files", "limit", "room"),
    [
        pytest.param({"a/b/memory.max": str(2 * GIB), "a/memory.max": "max"}, 2 * GIB, 2 * GIB, id="own limit"),
        pytest.param({"a/b/memory.max": "max", "a/memory.max": str(GIB)}, GIB, GIB, id="the parent's limit"),
        pytest.param(
            {
                "a/b/memory.max": str(GIB),
                "a/memory.max": str(2 * GIB),
                "a/memory.current": str(2 * GIB - 100 * MIB),
            },
            GIB,
            100 * MIB,
            id="siblings used up what the parent allows",
        ),
        pytest.param({"a/b/memory.max": str(2 * GIB), "a/b/memory.high": str(GIB)}, GIB, GIB, id="throttled earlier"),
        pytest.param(
            {"a/b/memory.max": str(GIB), "a/b/memory.current": str(3 * GIB)}, GIB, 0, id="already above the limit"
        ),
    ],
)
def test_the_tightest_of_nested_groups_counts(root: Path, files: dict[str, str], limit: int, room: int) -> None:
    v2(root, "/a/b", files)
    host = read_host(root)
    assert host.total_bytes == host.cgroup_limit_bytes == limit
    assert host.available_bytes == room


def test_a_limit_above_the_machine_is_no_limit(root: Path) -> None:
    v2(root, "/a", {"a/memory.max": str(1 << 50)})
    host = read_host(root)
    assert host.cgroup_limit_bytes is None
    assert host.total_bytes == psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("group", "top"),
    [
        pytest.param("/", "/", id="a cgroup namespace: the container is the root"),
        pytest.param("/docker/abc", "/docker/abc", id="the mount shows the container's group"),
        pytest.param("/docker/abc", "/elsewhere", id="a path of another namespace"),
        pytest.param("/../outside", "/", id="a path above the namespace"),
        pytest.param("/gone", "/", id="a group that is not mounted here"),
    ],
)
def test_a_container_finds_its_limit_at_the_mount(root: Path, group: str, top: str) -> None:
    v2(root, group, {"memory.max": str(GIB)}, top)
    assert read_host(root).cgroup_limit_bytes == GIB


def test_a_group_below_the_one_that_the_mount_shows_is_found(root: Path) -> None:
    v2(root, "/docker/abc/job", {"memory.max": str(2 * GIB), "job/memory.max": str(GIB)}, "/docker/abc")
    assert read_host(root).cgroup_limit_bytes == GIB


def test_version_1_counts_with_its_own_names(root: Path) -> None:
    memory = "sys/fs/cgroup/memory"
    write(
        root,
        {
            "proc/self/cgroup": "4:memory:/job\n2:cpu,cpuacct:/job\n0::/\n",
            "proc/self/mountinfo": V1,
            f"{memory}/memory.limit_in_bytes": "9223372036854771712\n",
            f"{memory}/job/memory.limit_in_bytes": f"{GIB}\n",
            f"{memory}/job/memory.usage_in_bytes": f"{800 * MIB}\n",
            f"{memory}/job/memory.stat": f"inactive_file 1\ntotal_inactive_file {100 * MIB}\n"
            f"total_active_file {200 * MIB}\ntotal_dirty {10 * MIB}\n",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
        },
    )
    host = read_host(root)
    assert host.cgroup_limit_bytes == GIB
    assert host.available_bytes == (1024 - 800 + 300 - 10) * MIB
    assert host.logical_cores == 1


@pytest.mark.parametrize(
    ("quota", "most"),
    [("max 100000", 10**6), ("100000 100000", 1), ("150000 100000", 1), ("50000 100000", 1), ("nonsense", 10**6)],
)
def test_a_quota_rounds_down_to_whole_cores(root: Path, quota: str, most: int) -> None:
    v2(root, "/a", {"a/cpu.max": quota + "\n"})
    assert read_host(root).logical_cores == min(most, len(os.sched_getaffinity(0)))


def test_threads_of_one_core_are_one_physical_core(root: Path) -> None:
    for cpu in os.sched_getaffinity(0):
        topology = f"sys/devices/system/cpu/cpu{cpu}/topology"
        write(root, {f"{topology}/core_id": "0\n", f"{topology}/physical_package_id": "0\n"})
    assert read_host(root).physical_cores == 1


def test_the_disk_of_a_folder_that_does_not_exist_yet_is_its_parents(tmp_path: Path) -> None:
    free = disk_free_bytes(tmp_path / "not" / "there" / "yet")
    there = os.statvfs(tmp_path)
    assert abs(free - there.f_bavail * there.f_frsize) < 256 * MIB


def test_a_folder_that_may_not_be_looked_at_is_named() -> None:
    with ordinary_user() as folder:
        closed = folder / "closed"
        (closed / "inner").mkdir(parents=True)
        closed.chmod(0)
        with pytest.raises(NotAllowed, match="closed"):
            disk_free_bytes(closed / "inner")
