"""What the runtime's fit counts for several devices and a load does not make."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qwenops.machine.types import Device
from qwenops.memory.closed_form import closed_form
from qwenops.memory.ladder import need
from qwenops.memory.placement import Placement
from qwenops.memory.rehearsal import rehearsed_extra
from qwenops.memory.types import LoadSettings
from qwenops.units import GIB, MIB
from tests.support.shapes import TEXT, text_model

MODEL = text_model(TEXT["qwen3-0.6b"])
SETTINGS = LoadSettings(num_ctx=4096)
SPLIT = Placement((0,) * 15 + (1,) * 14, 2)


def devices(count: int) -> tuple[Device, ...]:
    return tuple(Device(f"Vulkan{i}", "vulkan", "llvmpipe", 2 * GIB, 2 * GIB, source="runtime") for i in range(count))


@pytest.mark.parametrize(
    ("placed", "extra_mib"),
    [
        ([0] * 29, (0, 0)),
        ([0] * 15 + [1] * 14, (0, 8)),
        ([2] * 15 + [0] * 7 + [1] * 7, (0, 0)),
        ([0] * 14, (0, 0)),
    ],
)
def test_it_is_a_copy_of_the_rows_at_the_border_of_two_devices(placed: list[int], extra_mib: tuple[int, ...]) -> None:
    assert rehearsed_extra(MODEL, SETTINGS, devices(2), Placement(tuple(placed), 2)) == tuple(
        mib * MIB for mib in extra_mib
    )


def test_it_grows_with_the_rows_of_a_batch() -> None:
    wide = replace(SETTINGS, batch=1024, ubatch=1024)
    assert rehearsed_extra(MODEL, wide, devices(2), SPLIT) == (0, 16 * MIB)


def test_nothing_is_known_of_an_architecture_that_is_not_replayed() -> None:
    model = text_model(replace(TEXT["qwen3-0.6b"], architecture="nobody"))
    assert rehearsed_extra(model, SETTINGS, devices(2), SPLIT) == (0, 0)


def test_the_fit_keeps_so_much_more_free_than_its_target() -> None:
    reserve = {"Vulkan0": GIB, "Vulkan1": GIB}
    said = need(MODEL, SETTINGS, devices(2), rung="closed form", reserve_bytes=reserve)
    assert [d.reserve_bytes for d in said.devices] == [GIB, GIB + 8 * MIB]
    alone = need(MODEL, SETTINGS, devices(1), rung="closed form", reserve_bytes=reserve)
    assert [d.reserve_bytes for d in alone.devices] == [GIB]


def test_a_hybrid_between_two_devices_grows_with_every_period_of_its_blocks() -> None:
    """As llama-server logged it for 8 and 17 layers on two software devices."""
    model, settings = text_model(TEXT["qwen3.5-0.8b"]), LoadSettings(num_ctx=6000, tensor_split=(8, 17))
    said = closed_form(model, settings, devices(2))
    assert [round(d.compute_bytes / MIB, 2) for d in said.devices] == [98.20, 108.41]
