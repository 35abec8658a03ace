"""The GPU of a Mac, by what sysctl answers there."""

from __future__ import annotations

import pytest

from qwenops.machine.apple import default_wired_limit_bytes, read_apple
from qwenops.machine.types import Device, Host

MIB = 1024**2
GIB = 1024**3


def mac(available_gib: int = 64, **answers: str) -> tuple[Device, tuple[str, ...]]:
    """A Mac whose sysctl knows `answers`, with dots written as underscores."""
    known = {name.replace("__", "."): value for name, value in answers.items()}
    host = Host(64 * GIB, available_gib * GIB, 8, 8, "darwin", "arm64")
    (device,), notes = read_apple(host, sysctl=known.get, system="Darwin", arch="arm64")
    return device, notes


@pytest.mark.parametrize(
    ("memory_gib", "limit_mib"),
    [(8, 5461), (16, 10922), (24, 16384), (32, 21845), (36, 27648), (64, 49152), (96, 73728)],
)
def test_the_default_is_what_llama_cpp_was_seen_to_log(memory_gib: int, limit_mib: int) -> None:
    assert default_wired_limit_bytes(memory_gib * GIB) // MIB == limit_mib


def test_the_default_limit_is_used_and_said() -> None:
    device, notes = mac(hw__memsize=str(64 * GIB), iogpu__wired_limit_mb="0", machdep__cpu__brand_string="Apple M4 Max")
    assert (device.name, device.kind, device.description) == ("MTL0", "metal", "Apple M4 Max")
    assert (device.total_bytes, device.free_bytes) == (48 * GIB, 48 * GIB)
    assert (device.unified, device.integrated, device.source) == (True, True, "wired limit")
    assert "75 %" in notes[0]
    assert "sudo sysctl iogpu.wired_limit_mb" in notes[0]


@pytest.mark.parametrize("name", ["iogpu__wired_limit_mb", "debug__iogpu__wired_limit"])
def test_a_limit_that_the_user_set_counts(name: str) -> None:
    device, notes = mac(hw__memsize=str(64 * GIB), **{name: str(56 * 1024)})
    assert device.total_bytes == 56 * GIB
    assert notes == ()


def test_a_limit_above_the_memory_is_the_memory() -> None:
    assert mac(hw__memsize=str(16 * GIB), iogpu__wired_limit_mb="999999")[0].total_bytes == 16 * GIB


def test_free_is_no_more_than_the_host_has() -> None:
    assert mac(available_gib=5, hw__memsize=str(64 * GIB))[0].free_bytes == 5 * GIB


def test_a_mac_that_answers_nothing_goes_by_its_memory() -> None:
    assert mac()[0].total_bytes == 48 * GIB


@pytest.mark.parametrize(("system", "arch"), [("Linux", "x86_64"), ("Linux", "arm64"), ("Darwin", "x86_64")])
def test_other_machines_have_none(system: str, arch: str) -> None:
    host = Host(GIB, GIB, 1, 1, system.lower(), arch)
    assert read_apple(host, sysctl=lambda name: "1", system=system, arch=arch) == ((), ())
