"""The devices of a load's log under the names that the whole machine has for them.

A llama-server that is shown some of the cards counts those from 0: a load on CUDA1 alone logs CUDA0. Ollama names the
cards to the child for one device, for CUDA devices only, and always for ROCm (runtime/flags.py has the rule).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from qwenops.memory.load_log import LoadLines
from qwenops.memory.types import DeviceNeed

_NAME = re.compile(r"([A-Za-z]+)(\d+)(.*)")


def as_the_machine_has_them(lines: LoadLines, devices: Sequence[DeviceNeed]) -> LoadLines:
    """The log's lines with the child's names replaced by those of `devices`, the devices of the load in their order."""
    names = _names(devices)
    if not names or not set(lines.devices) <= set(names):
        return lines

    def named(backend: str) -> str:
        match = _NAME.fullmatch(backend)
        own = names.get(f"{match[1]}{match[2]}") if match else None
        return f"{own}{match[3]}" if own and match else backend

    return replace(
        lines,
        buffers=tuple(replace(b, backend=b.backend if b.on_host else named(b.backend)) for b in lines.buffers),
        free_bytes={named(name): free for name, free in lines.free_bytes.items()},
        projector_backend=named(lines.projector_backend) if lines.projector_backend else None,
    )


def _names(devices: Sequence[DeviceNeed]) -> Mapping[str, str]:
    """The machine's name by the child's; empty where the child sees every device, or they are the same."""
    kinds = {d.kind for d in devices}
    if len(devices) != 1 and not (kinds == {"cuda"} or kinds == {"rocm"}):
        return {}
    names = {}
    for place, device in enumerate(devices):
        match = _NAME.fullmatch(device.name)
        if match is None:
            return {}
        names[f"{match[1]}{place}"] = device.name
    return {} if all(child == own for child, own in names.items()) else names
