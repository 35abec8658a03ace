"""A load on the second card alone logs the first one's name: it is put right, and nothing else is."""

from __future__ import annotations

import pytest

from qwenops.memory.load_log import LoadLines, parse_load_log
from qwenops.memory.types import DeviceNeed
from qwenops.ollama.child_names import as_the_machine_has_them
from qwenops.units import MIB

LOG = """
llama_prepare_model_devices: using device {0} (A card) (0000:02:00.0) - 11000 MiB free
load_tensors:   CPU_Mapped model buffer size = 24.00 MiB
load_tensors:  {0} model buffer size = 28.00 MiB
sched_reserve: {0} compute buffer size = 7.00 MiB
sched_reserve: CUDA_Host compute buffer size = 3.00 MiB
clip_ctx: CLIP using {0} backend
"""


def need(name: str, kind: str = "cuda") -> DeviceNeed:
    return DeviceNeed(name, kind, 0)  # type: ignore[arg-type]


def logged(*names: str) -> LoadLines:
    return parse_load_log("".join(LOG.format(name) for name in names))


def test_one_card_is_counted_from_0_by_its_child() -> None:
    lines = as_the_machine_has_them(logged("CUDA0"), (need("CUDA1"),))
    assert lines.devices == ("CUDA1",)
    assert lines.device_bytes("CUDA1", "model", "compute") == 35 * MIB
    assert lines.free_bytes == {"CUDA1": 11000 * MIB}
    assert lines.projector_backend == "CUDA1"
    assert lines.host_bytes() == 27 * MIB


def test_several_are_counted_in_the_order_of_the_load() -> None:
    lines = as_the_machine_has_them(logged("CUDA0", "CUDA1"), (need("CUDA2"), need("CUDA0")))
    assert set(lines.devices) == {"CUDA2", "CUDA0"}
    assert lines.free_bytes == {"CUDA2": 11000 * MIB, "CUDA0": 11000 * MIB}


@pytest.mark.parametrize(
    ("names", "devices"),
    [
        pytest.param(("CUDA0",), (need("CUDA0"),), id="the same name"),
        pytest.param(("Vulkan0", "Vulkan2"), (need("Vulkan0", "vulkan"), need("Vulkan2", "vulkan")), id="all are seen"),
        pytest.param(("CUDA1",), (need("CUDA1"),), id="the child saw all after all"),
        pytest.param(("CUDA0",), (), id="no device was planned"),
        pytest.param(("CUDA0",), (need("Metal"),), id="a name without a number"),
    ],
)
def test_names_that_are_right_stay(names: tuple[str, ...], devices: tuple[DeviceNeed, ...]) -> None:
    lines = logged(*names)
    assert as_the_machine_has_them(lines, devices) == lines
