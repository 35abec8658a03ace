"""What the runtime's fit counts for several devices and a load does not make."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qwenops.machine.types import Device
from qwenops.memory.closed_form import closed_form
from qwenops.memory.fit_log import parse_fit_log
from qwenops.memory.ladder import need
from qwenops.memory.placement import Overflow, Placement
from qwenops.memory.rehearsal import placement_of, rehearsed_extra
from qwenops.memory.types import LoadSettings
from qwenops.units import GIB, MIB
from tests.support.shapes import TEXT, text_model

MODEL = text_model(TEXT["qwen3-0.6b"])
SETTINGS = LoadSettings(num_ctx=4096)
MIXTURE = replace(
    TEXT["qwen3-30b-a3b"], layers=8, embedding=1024, heads=16, experts=64, experts_used=4, vocabulary=32000
)
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


@pytest.mark.parametrize(
    ("kept_free_mib", "loaded_mib"),
    [
        (1485, ((418.36, 60, 32.01), (329.86, 36, 32.14))),
        (1541, ((364.11, 60, 32.01), (384.11, 36, 30.01))),
        (1654, ((267.67, 48, 55.52), (293.56, 48, 30.01))),
    ],
)
def test_a_mixture_that_spills_over_two_devices_is_spread_as_the_runtime_spreads_it(
    kept_free_mib: int, loaded_mib: tuple[tuple[float, ...], ...]
) -> None:
    """As llama-server's fit chose and logged it: whole blocks in front, part of one on the next device."""
    model = text_model(MIXTURE)
    reserve = dict.fromkeys(("Vulkan0", "Vulkan1"), kept_free_mib * MIB)
    said = closed_form(model, LoadSettings(num_ctx=6000, gpu_layers="auto"), devices(2), reserve_bytes=reserve)
    parts = ((d.weights_bytes, d.kv_bytes, d.compute_bytes) for d in said.devices)
    assert tuple(tuple(round(size / MIB, 2) for size in sizes) for sizes in parts) == loaded_mib


def test_where_the_fit_puts_what_is_read_from_its_log() -> None:
    text = (
        "common_params_fit_impl: getting device memory data for initial parameters:\n"
        "load_tensors: layer   0 assigned to device Vulkan0, is_swa = 0\n"
        "load_tensors: layer   1 assigned to device Vulkan1, is_swa = 0\n"
        "load_tensors: layer   2 assigned to device CPU, is_swa = 0\n"
        "tensor blk.0.ffn_down_exps.weight (39 MiB q6_K) buffer type overridden to Vulkan1\n"
        "tensor blk.1.ffn_up_exps.weight (27 MiB q4_K) buffer type overridden to Vulkan_Host\n"
        "tensor blk.1.ffn_down_exps.weight (39 MiB q6_K) buffer type overridden to Vulkan_Host\n"
        "x: |   - Vulkan0 (a)  | 2048 = 2048 + (100 = 80 + 10 + 10) + 1 |\n"
        "x: |   - Vulkan1 (a)  | 2048 = 2048 + (100 = 80 + 10 + 10) + 1 |\n"
    )
    chosen = parse_fit_log(text).chosen
    assert chosen is not None
    assert placement_of(chosen) == Placement(
        (0, 1, 2),
        2,
        overflows=(
            Overflow(0, ("ffn_down_exps.weight",), 1),
            Overflow(1, ("ffn_up_exps.weight", "ffn_down_exps.weight"), 2),
        ),
    )


def test_beside_a_draft_head_that_is_not_loaded_the_fit_leaves_a_first_block_on_the_host() -> None:
    """As llama-server's fit chose and logged it for a GLM 4.5 whose every layer would have taken 0.03 MiB too much."""
    (card,) = devices(1)
    settings = LoadSettings(num_ctx=2048, gpu_layers="auto")
    said = closed_form(text_model(TEXT["glm-4.5-air-small"]), settings, (card,), reserve_bytes={card.name: 1731 * MIB})
    (need_of,) = said.devices
    assert (said.layers.on_device, said.layers.total) == (13, 14)
    sizes = (need_of.weights_bytes, need_of.kv_bytes, need_of.compute_bytes)
    assert [round(size / MIB, 2) for size in sizes] == [235.84, 24.00, 48.01]
