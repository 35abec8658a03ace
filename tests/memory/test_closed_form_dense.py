"""The closed form against real loads of dense models and mixtures outside the Llama, Qwen and Gemma families.

The figures are the server's own (build b10434), recorded by scripts/record_families.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenops.machine.types import Device
from qwenops.memory.closed_form import closed_form
from qwenops.memory.graphs import KNOWN
from qwenops.memory.types import LoadSettings, Need
from qwenops.units import GIB, MIB
from tests.support import families_dense
from tests.support.shapes import TEXT, text_model

RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "recorded_dense.json").read_text())["loads"]
SOFTWARE = Device("Vulkan0", "vulkan", "llvmpipe (LLVM 15.0.6, 256 bits)", 2048 * MIB, 2048 * MIB, source="runtime")
CARD = Device("CUDA0", "cuda", "a card", 80 * GIB, 80 * GIB, source="runtime")
LOG_ROUNDING = 0.011  # the log has two digits


def _name(row: dict[str, Any]) -> str:
    changed = " ".join(f"{k}={v}" for k, v in row["settings"].items())
    return f"{row['shape']} {row['quant']} {changed}"


def _need(row: dict[str, Any]) -> Need:
    settings = replace(LoadSettings(), **row["settings"])
    return closed_form(text_model(TEXT[row["shape"]], row["quant"]), settings, (SOFTWARE,))


@pytest.mark.parametrize("row", RECORDED, ids=_name)
def test_each_buffer_is_as_large_as_the_server_made_it(row: dict[str, Any]) -> None:
    need = _need(row)
    device, host = need.devices[0], need.host
    ours = {
        "Vulkan0 model": device.weights_bytes,
        "Vulkan0 KV": device.kv_bytes,
        "Vulkan0 compute": device.compute_bytes,
        "CPU KV": host.kv_bytes,
        "Vulkan_Host compute": host.compute_bytes,
    }
    logged = {name: row["devices"].get(name, 0.0) for name in ours}
    assert {name: n / MIB for name, n in ours.items()} == pytest.approx(logged, abs=LOG_ROUNDING)
    assert need.layers.on_device == row["layers"]
    assert need.notes == ()


def test_every_architecture_of_these_families_is_known_and_was_loaded() -> None:
    recorded = {TEXT[row["shape"]].architecture for row in RECORDED}
    here = {d.architecture for d in families_dense.TEXT.values()}
    assert here <= KNOWN
    assert here == recorded


@pytest.mark.parametrize("shape", [n for n in families_dense.TEXT if "small" not in n])
def test_a_published_model_has_a_narrow_band_on_a_large_card(shape: str) -> None:
    need = closed_form(text_model(TEXT[shape]), LoadSettings(), (CARD,))
    total = need.total_device_bytes
    assert need.notes == ()
    assert need.band.high - need.band.low <= max(total // 20, 4 * MIB)
    assert need.layers.on_device == need.layers.total


def test_a_block_without_heads_keeps_values_only_where_they_lie_on_their_side() -> None:
    """llama_kv_cache gives every block the widest block's values then (b10434), a block without keys as well."""
    model = text_model(TEXT["deci-small"])
    upright = closed_form(model, LoadSettings(num_ctx=4096), (CARD,)).devices[0].kv_bytes
    on_side = closed_form(model, LoadSettings(num_ctx=4096, flash_attn="off"), (CARD,)).devices[0].kv_bytes
    blocks_without, narrower = 3, 2 * 128 * 2 * 4096
    assert on_side - upright == blocks_without * 4 * 128 * 2 * 4096 + narrower
