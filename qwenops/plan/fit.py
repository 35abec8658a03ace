"""The verdict: does a need fit what is free, and would the runtime keep every layer there by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from qwenops.machine.types import Host
from qwenops.memory.types import DeviceNeed, Need
from qwenops.plan.types import Choice, Fits, Judged

# Kept free on each device beyond the upper edge of the need, for what moves on a desktop between the plan and the
# load. Users change it with --headroom.
DEFAULT_HEADROOM_BYTES = 64 * 1024**2
# A load that lives in host memory must leave the system room to breathe.
HOST_SHARE = 0.9


def judge(
    choice: Choice,
    need: Need,
    *,
    host: Host,
    headroom_bytes: int = DEFAULT_HEADROOM_BYTES,
    warmup_saving: Callable[[DeviceNeed], int] = lambda _: 0,
) -> Judged:
    """Hold a need against the free memory of every device, and of the host.

    Yes: the upper edge of the band and the headroom fit. No: even the lower edge does not. Too close: in between.
    `warmup_saving` says by how much the encoder's planned memory exceeds what the runtime's own fit counts for it.
    """
    device_slacks = [_slack(need, d, headroom_bytes) for d in need.devices]
    slacks = [*device_slacks, _host_slack(need, host)]
    places = [*(d.name for d in need.devices), "host"]
    worst_high, tightest = min((high, place) for (high, _), place in zip(slacks, places, strict=True))
    worst_low = min(low for _, low in slacks)
    fits: Fits = "yes" if worst_high >= 0 else "no" if worst_low < 0 else "too close"
    keeps = all(_runtime_keeps(d, warmup_saving(d)) for d in need.devices)
    spare = min((high for high, _ in device_slacks), default=worst_high)
    return Judged(
        choice=choice,
        need=need,
        fits=fits,
        short_bytes=max(0, -worst_high),
        spare_bytes=max(0, spare),
        runtime_keeps_all=keeps,
        tightest=tightest,
    )


def pin_layers(judged: Judged) -> Judged:
    """Write num_gpu where everything fits but the runtime's own reserve would spill layers to the CPU.

    num_gpu = every layer + the output layer switches Ollama's fit off (llm/llama_server.go, v0.32.14: -ngl is passed
    only when num_gpu is set), and covers the rule that moves the projector to the CPU when num_gpu is smaller.
    """
    if judged.fits != "yes" or judged.runtime_keeps_all or not judged.need.devices:
        return judged
    if judged.need.layers.on_device < judged.need.layers.total:
        return judged
    return replace(judged, choice=replace(judged.choice, num_gpu=judged.need.layers.total))


def edges(need: Need, device: DeviceNeed) -> tuple[int, int]:
    """Between which totals a device's share of the band lies, in bytes."""
    share = device.total_bytes / max(1, need.total_device_bytes)
    above = round((need.band.high - need.total_device_bytes) * share)
    below = round((need.total_device_bytes - need.band.low) * share)
    return (device.total_bytes - below, device.total_bytes + above)


def _slack(need: Need, device: DeviceNeed, headroom_bytes: int) -> tuple[int, int]:
    if device.total_bytes == 0:
        return (0, 0)
    low, high = edges(need, device)
    return (device.free_bytes - high - headroom_bytes, device.free_bytes - low)


def _host_slack(need: Need, host: Host) -> tuple[int, int]:
    room = int(host.available_bytes * HOST_SHARE) - need.host.total_bytes
    return (room, room)


def _runtime_keeps(device: DeviceNeed, warmup_saving_bytes: int) -> bool:
    counted = device.total_bytes - device.overhead_bytes - warmup_saving_bytes
    return counted + device.reserve_bytes <= device.free_bytes
