"""Apple GPUs by their wired limit: how much of the unified memory Metal lets a program hold for the GPU."""

from __future__ import annotations

import platform
from collections.abc import Callable

from qwenops.machine.types import Device, Host
from qwenops.units import GIB, MIB

# Sysctl names of the limit, newest first: macOS 14 and later, then macOS 13.
_LIMIT_NAMES = ("iogpu.wired_limit_mb", "debug.iogpu.wired_limit")
_LIMIT_COMMAND = "sudo sysctl iogpu.wired_limit_mb=MIB"


def read_apple(
    host: Host,
    sysctl: Callable[[str], str | None] | None = None,
    system: str | None = None,
    arch: str | None = None,
) -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """(devices, notes): the GPU of an Apple-silicon Mac; nothing elsewhere.

    `sysctl` answers one name (None where it is unknown). The total is the limit that the user has set, else the
    default of `default_wired_limit_bytes`; free is that, or what the host has available where that is less (Metal's
    own free figure only leaves out what the asking process holds).
    """
    if (system or platform.system()) != "Darwin" or (arch or platform.machine()) != "arm64":
        return (), ()
    ask = sysctl or _sysctl
    memory = _number(ask("hw.memsize")) or host.total_bytes
    chosen = next((n for n in (_number(ask(name)) for name in _LIMIT_NAMES) if n), None)
    limit = min(chosen * MIB, memory) if chosen else default_wired_limit_bytes(memory)
    device = Device(
        name="MTL0",
        kind="metal",
        description=ask("machdep.cpu.brand_string") or "Apple GPU",
        total_bytes=limit,
        free_bytes=min(limit, host.available_bytes),
        unified=True,
        integrated=True,
        source="wired limit",
    )
    if chosen:
        return (device,), ()
    share = limit * 100 // memory
    return (device,), (
        f"the GPU may hold about {share} % of this Mac's memory, macOS's default; {_LIMIT_COMMAND} raises it until "
        "the next restart",
    )


def default_wired_limit_bytes(memory_bytes: int) -> int:
    """What Metal recommends as the largest working set when no limit was set: two thirds, three quarters above 32 GiB.

    This is what llama.cpp takes as the device's total (ggml-metal-device.m, b10435,
    ggml_metal_device_get_memory: recommendedMaxWorkingSetSize). The fractions are those of its logs: 10922 MiB of
    16 GiB, 21845 of 32, 73728 of 96. Newer systems were seen to give more (12124 MiB of 16 GiB, 107.5 GiB of 128),
    none less.
    """
    return memory_bytes * 2 // 3 if memory_bytes <= 32 * GIB else memory_bytes * 3 // 4


def _sysctl(name: str) -> str | None:
    """One value of the running system, or None."""
    import subprocess

    try:
        answer = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdigit() else None
