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
from qwenops.memory.graphs import GRAPHS
from qwenops.memory.placement import Placement
from qwenops.memory.shape import shape_of
from qwenops.memory.types import LoadSettings
from qwenops.model.types import Model


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
