"""What the runtime's fit counts and a load does not make: one more copy of a batch's rows between two devices.

The fit sizes its buffers with ggml_backend_sched_reserve_size, which forgets on which device the graph wanted the norm
before each block (ggml/src/ggml-backend.cpp, llama.cpp b10434); a load's own reservation remembers. On one device
nothing follows from it. Between devices that work as a pipeline it is 8 MiB a boundary for rows of 1024 numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwenops.machine.types import Device
from qwenops.memory.backends import backend_of, host_backend
from qwenops.memory.closed_form import text_need
from qwenops.memory.fit_log import FitPass
from qwenops.memory.graphs import GRAPHS
from qwenops.memory.placement import Overflow, Placement
from qwenops.memory.shape import shape_of
from qwenops.memory.types import LoadSettings
from qwenops.model.types import Model


def placement_of(chosen: FitPass) -> Placement:
    """Where one trial of the fit puts every layer, and what of a block it puts elsewhere."""
    cpu = len(chosen.devices)
    numbers = {row.name: number for number, row in enumerate(chosen.devices)}
    leaving: dict[tuple[int, int], list[str]] = {}
    for name, buffer in chosen.overridden:
        _, block, rest = name.split(".", 2)
        leaving.setdefault((int(block), numbers.get(buffer, cpu)), []).append(rest)
    return Placement(
        tuple(numbers.get(name, cpu) for _, name in sorted(chosen.layer_devices)),
        cpu,
        overflows=tuple(Overflow(block, tuple(rest), there) for (block, there), rest in leaving.items()),
    )


def rehearsed_extra(
    model: Model, settings: LoadSettings, devices: Sequence[Device], placement: Placement
) -> tuple[int, ...]:
    """Bytes of each device's compute buffer that the fit counts too much under a placement.

    Nothing is known of an architecture whose graph is not replayed: 0 there.
    """
    nothing = (0,) * len(devices)
    if len(set(placement.backends) - {placement.cpu}) < 2 or model.architecture not in GRAPHS:
        return nothing
    shape = shape_of(model)
    if len(placement.backends) != shape.layers + 1:
        return nothing
    backends = [backend_of(device) for device in devices]
    backends.append(host_backend(backends[0]))
    counted, made = (
        text_need(model, shape, settings, placement, backends, rehearsal=rehearsal).compute.bytes_by_backend
        for rehearsal in (True, False)
    )
    return tuple(more - real for more, real in zip(counted[:-1], made[:-1], strict=True))
