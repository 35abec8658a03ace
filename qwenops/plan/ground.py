"""The ground a plan stands on: which devices, how much of them, and the server settings in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from qwenops.errors import BadInput
from qwenops.machine.twins import twin_of
from qwenops.machine.types import Device, Host, Machine
from qwenops.memory.types import KV_TYPES, KVType
from qwenops.plan.idle import held_by_idle_models
from qwenops.runtime.flags import image_cap
from qwenops.units import MIB, human

if TYPE_CHECKING:
    from qwenops.runtime.types import Runtime


@dataclass(frozen=True)
class Ground:
    """What the planner may count on. `runtime` is None for hardware that is not here.

    `evictable_bytes` is what Ollama's own idle models hold: it is counted as free, since Ollama evicts them.
    """

    devices: tuple[Device, ...]
    host: Host
    runtime: Runtime | None
    kv_type: KVType
    flash_attn: Literal["auto", "on", "off"]
    image_cap: int | None
    environment: Mapping[str, str]
    evictable_bytes: int = 0
    notes: tuple[str, ...] = ()

    @property
    def free_bytes(self) -> int:
        """Free memory over all devices."""
        return sum(d.free_bytes for d in self.devices)


def ground(machine: Machine, runtime: Runtime | None) -> Ground:
    """Join machine and runtime: the runtime's own device list wins, unless the hardware was described by --gpu."""
    usable = runtime if runtime is not None and runtime.reachable and not machine.hypothetical else None
    if runtime is not None and runtime.place == "remote" and not machine.hypothetical:
        raise BadInput(
            f"the Ollama server is on another machine ({runtime.url}), and this machine's devices say nothing about it",
            do='describe its card, for example --gpu "RTX 3060 12GB"',
        )
    listed = runtime.devices if runtime is not None and not machine.hypothetical else ()
    devices = _with_driver_facts(listed, machine.devices) if listed else machine.devices
    devices, evictable, notes = _count_idle_models(devices, runtime if listed else None)
    environment = dict(usable.environment) if usable else {}
    return Ground(
        devices=devices,
        host=machine.host,
        runtime=runtime if not machine.hypothetical else None,
        kv_type=_kv_type(usable),
        flash_attn=_flash_attn(usable),
        image_cap=image_cap(environment),
        environment=environment,
        evictable_bytes=evictable,
        notes=(*machine.notes, *(runtime.notes if runtime and not machine.hypothetical else ()), *notes),
    )


def _with_driver_facts(listed: tuple[Device, ...], seen: tuple[Device, ...]) -> tuple[Device, ...]:
    """Who holds the memory is the driver's knowledge, how much is free is the runtime's: keep both."""
    return tuple(
        replace(
            d,
            processes=twin.processes,
            driver=twin.driver,
            compute_capability=twin.compute_capability,
            uuid=d.uuid or twin.uuid,
        )
        if (twin := twin_of(d, seen))
        else d
        for d in listed
    )


def _count_idle_models(
    devices: tuple[Device, ...], runtime: Runtime | None
) -> tuple[tuple[Device, ...], int, tuple[str, ...]]:
    if runtime is None or not runtime.loaded:
        return devices, 0, ()
    back = held_by_idle_models(devices, runtime)
    names = ", ".join(m.name for m in runtime.loaded)
    notes = []
    if sum(back):
        notes.append(f"{human(sum(back))} held by Ollama's own {names} count as free: Ollama evicts idle models")
    rest = sum(m.size_vram_bytes for m in runtime.loaded) - sum(back)
    if len(devices) > 1 and rest > MIB:
        notes.append(
            f"{human(rest)} more of {names} count as taken, since nobody says on which device they lie: "
            "ollama stop frees them"
        )
    freed = tuple(replace(d, free_bytes=d.free_bytes + more) for d, more in zip(devices, back, strict=True))
    return freed, sum(back), tuple(notes)


def _kv_type(runtime: Runtime | None) -> KVType:
    value = (runtime.setting("OLLAMA_KV_CACHE_TYPE") or "f16").lower() if runtime else "f16"
    return value if value in KV_TYPES else "f16"


def _flash_attn(runtime: Runtime | None) -> Literal["auto", "on", "off"]:
    value = (runtime.setting("OLLAMA_FLASH_ATTENTION") or "").lower() if runtime else ""
    if value in {"1", "true", "on"}:
        return "on"
    if value in {"0", "false", "off"}:
        return "off"
    return "auto"
