"""The closed form against real loads of dense models and mixtures outside the Llama, Qwen and Gemma families.

The figures are the server's own (build b10434), recorded by scripts/record_families.py.
"""

from __future__ import annotations

import pytest

from qwenops.machine.types import Device
from qwenops.memory.closed_form import closed_form
from qwenops.memory.graphs import KNOWN
from qwenops.memory.types import LoadSettings
from qwenops.units import GIB, MIB
from tests.support import families_dense
from tests.support.recorded import LOG_ROUNDING, Row, buffers_mib, logged_mib, need_of, recorded, row_name
from tests.support.shapes import TEXT, text_model

RECORDED = recorded("dense")
CARD = Device("CUDA0", "cuda", "a card", 80 * GIB, 80 * GIB, source="runtime")


@pytest.mark.parametrize("row", RECORDED, ids=row_name)
def test_each_buffer_is_as_large_as_the_server_made_it(row: Row) -> None:
    need = need_of(row)
    assert buffers_mib(need) == pytest.approx(logged_mib(row), abs=LOG_ROUNDING)
    assert need.layers.on_device == row["layers"]
    assert need.notes == ()


def test_every_architecture_of_these_families_is_known_and_was_loaded() -> None:
    loaded = {TEXT[row["shape"]].architecture for row in RECORDED}
    here = {d.architecture for d in families_dense.TEXT.values()}
    assert here <= KNOWN
    assert here == loaded


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
