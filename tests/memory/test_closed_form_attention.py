"""The closed form for models with caches or heads of their own, against loads of the server that Ollama ships.

The loads were made as scripts/record_loads.py makes them, of ghosts of published shapes. Some are cut in layers,
experts or vocabulary to what the software GPU can hold.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from qwenops.machine.types import Device
from qwenops.memory.closed_form import closed_form
from qwenops.memory.graphs import KNOWN
from qwenops.memory.kv import CELL_PADDING
from qwenops.memory.types import LoadSettings
from qwenops.units import GIB, MIB, pad
from tests.support.recorded import LOG_ROUNDING, SOFTWARE, Row, need_of, recorded, row_name
from tests.support.shapes import TEXT, text_model

RECORDED = recorded("attention")
CARD = (Device("CUDA0", "cuda", "a card", 80 * GIB, 80 * GIB, source="runtime"),)
F16_BYTES = 2
UNNAMED_WINDOWS = {"exaone4": 4096, "llama4": 8192}  # where files leave it to the runtime


@pytest.mark.parametrize("row", RECORDED, ids=row_name)
def test_each_buffer_is_as_large_as_the_server_made_it(row: Row) -> None:
    need = need_of(row)
    device, logged = need.devices[0], row["devices"]  # the log names each of two caches: two roundings
    assert device.weights_bytes / MIB == pytest.approx(logged.get("Vulkan0 model", 0), abs=LOG_ROUNDING)
    assert device.kv_bytes / MIB == pytest.approx(logged.get("Vulkan0 KV", 0), abs=2 * LOG_ROUNDING)
    assert device.compute_bytes / MIB == pytest.approx(logged.get("Vulkan0 compute", 0), abs=LOG_ROUNDING)
    assert need.host.kv_bytes / MIB == pytest.approx(logged.get("CPU KV", 0), abs=2 * LOG_ROUNDING)
    assert need.host.compute_bytes / MIB == pytest.approx(logged.get("Vulkan_Host compute", 0), abs=LOG_ROUNDING)


@pytest.mark.parametrize("row", [r for r in RECORDED if r["settings"].get("gpu_layers") == "auto"], ids=row_name)
def test_auto_places_as_many_layers_as_the_server_did(row: Row) -> None:
    assert need_of(row).layers.on_device == row["layers"]


# Recorded with the software device listed twice (GGML_VK_VISIBLE_DEVICES=0,0): weights, cache and compute of both
# devices, then what the host computes with.
TWO_DEVICES: list[tuple[str, LoadSettings, tuple[float, ...], tuple[float, ...], float]] = [
    ("gemma-4-e2b-small", LoadSettings(), (454.84, 36.0, 206.07), (685.11, 0, 332.01), 43.59),
    ("gemma-4-e2b-small", LoadSettings(gpu_layers=20), (368.16, 0, 128.5), (386.2, 0, 110.5), 28.52),
    ("gemma-3n-e2b-small", LoadSettings(), (600.97, 50.0, 335.2), (602.71, 14.0, 332.2), 43.09),
    ("deepseek-v2-lite-small", LoadSettings(), (886.19, 63.0, 104.52), (911.0, 58.5, 100.57), 24.03),
    ("deepseek-v2-lite-small", LoadSettings(parallel=2), (886.19, 126.0, 328.52), (911.0, 117.0, 308.57), 1812.78),
    ("llama-4-scout-small", LoadSettings(), (283.07, 28.0, 54.61), (239.01, 20.0, 54.61), 37.09),
    ("llama-4-scout-small", LoadSettings(gpu_layers=9), (195.84, 20.0, 37.79), (162.9, 12.0, 20.55), 13.02),
]


@pytest.mark.parametrize(("shape", "settings", "first", "second", "host"), TWO_DEVICES, ids=lambda v: str(v)[:30])
def test_two_devices_share_a_model_as_the_server_shares_it(
    shape: str, settings: LoadSettings, first: tuple[float, ...], second: tuple[float, ...], host: float
) -> None:
    need = closed_form(text_model(TEXT[shape]), settings, (SOFTWARE, replace(SOFTWARE, name="Vulkan1")))
    seen = [tuple(n / MIB for n in (d.weights_bytes, d.kv_bytes, d.compute_bytes)) for d in need.devices]
    assert seen[0] == pytest.approx(first, abs=LOG_ROUNDING)
    assert seen[1] == pytest.approx(second, abs=LOG_ROUNDING)
    assert need.host.compute_bytes / MIB == pytest.approx(host, abs=LOG_ROUNDING)


def test_every_architecture_that_was_loaded_is_known() -> None:
    assert {TEXT[row["shape"]].architecture for row in RECORDED} <= KNOWN


@pytest.mark.parametrize(
    ("shape", "whole", "windowed"),
    [
        # blocks with a cache of their own, and the width of its rows
        ("gemma-3n-e2b", (4, 512), (16, 512)),
        ("gemma-3n-e4b", (4, 512), (16, 512)),
        ("gemma-4-e2b", (3, 512), (12, 256)),
        ("gemma-4-e4b", (4, 1024), (20, 512)),
        ("gemma-4-31b", (10, 2048), (50, 4096)),
        ("gemma-4-26b-a4b", (5, 1024), (25, 2048)),
        ("exaone-4-1.2b", (30, 512), (0, 0)),
        ("exaone-4-32b", (16, 1024), (48, 1024)),
        ("k-exaone-236b", (12, 1024), (37, 1024)),  # the draft's block has a window, too
        ("llama-4-scout", (12, 1024), (36, 1024)),
        ("glm-4.5-air", (47, 1024), (0, 0)),  # with the draft's block
        ("glm-4-9b", (40, 256), (0, 0)),
    ],
)
def test_a_cache_has_the_rows_of_the_blocks_that_own_it(
    shape: str, whole: tuple[int, int], windowed: tuple[int, int]
) -> None:
    settings = LoadSettings(num_ctx=32768)
    need = closed_form(text_model(TEXT[shape]), settings, CARD)
    named = dict(TEXT[shape].more_keys).get("attention.sliding_window")
    window = pad((named or UNNAMED_WINDOWS.get(TEXT[shape].architecture, 0)) + settings.ubatch, CELL_PADDING)
    cells = whole[0] * whole[1] * 32768 + windowed[0] * windowed[1] * window
    assert need.devices[0].kv_bytes == 2 * F16_BYTES * cells


@pytest.mark.parametrize("shape", ["gemma-3n-e2b", "gemma-4-e2b", "gemma-4-e4b"])
def test_what_is_looked_up_for_every_block_stays_on_the_host(shape: str) -> None:
    model = text_model(TEXT[shape])
    table = next(t for t in model.header.tensors if t.name == "per_layer_token_embd.weight")
    need = closed_form(model, LoadSettings(), CARD)
    assert need.layers.on_device == need.layers.total
    assert need.host.weights_bytes > table.size_bytes > need.devices[0].weights_bytes / 2
    assert need.devices[0].weights_bytes + need.host.weights_bytes < model.header.tensor_bytes * 1.2


def test_caches_on_the_host_are_fetched_again_for_every_block_that_shares_them() -> None:
    """As loaded: with the owners of the shared caches on the host, a block more on the device is a copy more."""
    settings = [LoadSettings(num_ctx=16384, gpu_layers=n) for n in (6, 11, 16)]
    computes = [
        closed_form(text_model(TEXT["gemma-4-e2b-small"]), s, (SOFTWARE,)).devices[0].compute_bytes for s in settings
    ]
    copy = 2 * F16_BYTES * 512 * 16384
    assert [b - a for a, b in pairwise(computes)] == pytest.approx([copy, copy], rel=0.1)


@pytest.mark.parametrize(
    ("shape", "row"),
    [
        ("deepseek-v2-lite", 512 + 64),  # one latent row for all heads, key and value at once
        ("deepseek-v2-lite-old", 16 * (192 + 128)),  # keys and values of every head
        ("deepseek-v3", 512 + 64),
        ("glm-4.7-flash", 512 + 64),
    ],
)
def test_latent_attention_keeps_one_row_a_token_and_block(shape: str, row: int) -> None:
    need = closed_form(text_model(TEXT[shape]), LoadSettings(num_ctx=8192), CARD)
    layers = TEXT[shape].layers + TEXT[shape].draft_layers
    assert need.devices[0].kv_bytes == F16_BYTES * 8192 * row * layers


@pytest.mark.parametrize(
    ("shape", "runs"),
    [
        ("gemma-4-e2b", True),  # heads of 512, eight to a key
        ("gemma-4-31b", True),
        ("deepseek-v2-lite", True),  # keys of 576 with values of 512
        ("deepseek-v2-lite-old", False),  # keys of 192, each for one head alone
    ],
)
def test_cuda_runs_the_fused_attention_for_the_heads_it_is_made_for(shape: str, runs: bool) -> None:
    assert closed_form(text_model(TEXT[shape]), LoadSettings(), CARD).flash_attn is runs


def test_cuda_reads_a_latent_cache_of_another_type_from_one_copy() -> None:
    """The value is the front of the key: what the kernel reads as f16 holds both."""
    settings = LoadSettings(num_ctx=131072)
    small = replace(settings, kv_type_k="q8_0", kv_type_v="q8_0")
    plain, copied = (
        closed_form(text_model(TEXT["deepseek-v2-lite"]), s, CARD).devices[0].compute_bytes for s in (settings, small)
    )
    assert copied - plain == pytest.approx(F16_BYTES * 131072 * 576, rel=0.1)
