"""What the runtime's fit counts for several devices and a load does not make."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qwenops.machine.types import Device
from qwenops.memory.rehearsal import rehearsed_extra
from qwenops.memory.types import LoadSettings
from qwenops.units import GIB, MIB
from tests.support.shapes import TEXT, text_model

MODEL = text_model(TEXT["qwen3-0.6b"])
SETTINGS = LoadSettings(num_ctx=4096)


def devices(count: int) -> tuple[Device, ...]:
    return tuple(Device(f"Vulkan{i}", "vulkan", "llvmpipe", 2 * GIB, 2 * GIB, source="runtime") for i in range(count))


@pytest.mark.parametrize(
    ("placed", "extra_mib"),
    [
        ([0] * 29, (0, 0)),
        ([0] * 15 + [1] * 14, (0, 8)),
        ([None] * 15 + [0] * 7 + [1] * 7, (0, 0)),
        ([0] * 14, (0, 0)),
    ],
)
def test_it_is_a_copy_of_the_rows_at_the_border_of_two_devices(
    placed: list[int | None], extra_mib: tuple[int, ...]
) -> None:
    assert rehearsed_extra(MODEL, SETTINGS, devices(2), placed) == tuple(mib * MIB for mib in extra_mib)


def test_it_grows_with_the_rows_of_a_batch() -> None:
    wide = replace(SETTINGS, batch=1024, ubatch=1024)
    assert rehearsed_extra(MODEL, wide, devices(2), [0] * 15 + [1] * 14) == (0, 16 * MIB)


def test_nothing_is_known_of_an_architecture_that_is_not_replayed() -> None:
    model = text_model(replace(TEXT["qwen3-0.6b"], architecture="nobody"))
    assert rehearsed_extra(model, SETTINGS, devices(2), [0] * 15 + [1] * 14) == (0, 0)
