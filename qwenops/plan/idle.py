"""What Ollama's own idle models hold on each device: a plan counts it as free, since Ollama evicts them.

/api/ps gives one size a model and no device. With one device that is all there is to know. With several, the driver's
list of processes says how it is shared out; where there is none, a device holds at least what the others cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qwenops.machine.types import Device

if TYPE_CHECKING:
    from qwenops.runtime.types import Runtime

_RUNNER = "llama-server"


def held_by_idle_models(devices: Sequence[Device], runtime: Runtime) -> tuple[int, ...]:
    """Bytes that the server's loaded models hold, by device: together never more than the server counts."""
    held = sum(m.size_vram_bytes for m in runtime.loaded)
    used = [d.used_bytes for d in devices]
    if held and len(devices) > 1:
        family = _family(runtime)
        of_runners = [_of_runners(d, family) for d in devices]
        if any(of_runners):
            shares = (held * mine // sum(of_runners) for mine in of_runners)
            return tuple(min(share, here) for share, here in zip(shares, used, strict=True))
    return tuple(min(max(0, held - (sum(used) - here)), here) for here in used)


def _of_runners(device: Device, family: frozenset[int]) -> int:
    """What the server's runners hold on a device by the driver's list; 0 where it has none."""
    theirs = (p for p in device.processes if (p.pid in family if family else p.name.startswith(_RUNNER)))
    return sum(p.used_bytes or 0 for p in theirs)


def _family(runtime: Runtime) -> frozenset[int]:
    from qwenops.runtime.process import family_of

    return family_of(runtime.pid)
