"""The script that holds the ladder against real loads says no when it must."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from qwenops.memory.probe_log import parse_load_log
from qwenops.memory.types import Band, DeviceNeed, HostNeed, Layers, LoadSettings, Need
from scripts.verify_loads import CASES, Case, Row, page

MIB = 1024**2
LOG = """\
load_tensors: offloaded {layers} layers to GPU
load_tensors:      Vulkan0 model buffer size =   236.50 MiB
llama_kv_cache:    Vulkan0 KV buffer size =   448.00 MiB
sched_reserve:    Vulkan0 compute buffer size =    30.00 MiB
sched_reserve: Vulkan_Host compute buffer size =     8.00 MiB
"""


def row(*, probe: dict[str, float] | None = None, formula: float = 0, layers: str = "29/29", **changes: Any) -> Row:
    """A row that is right in every figure but those that are moved, in MiB."""
    device = DeviceNeed(
        "Vulkan0",
        "vulkan",
        2048 * MIB,
        weights_bytes=round(236.5 * MIB),
        kv_bytes=448 * MIB,
        compute_bytes=30 * MIB,
    )
    said = Need(
        rung="runtime",
        settings=LoadSettings(),
        devices=(device,),
        host=HostNeed(compute_bytes=8 * MIB),
        layers=Layers(29, 29),
        band=Band(0, 0),
        sources={},
    )
    moved = {f"{part}_bytes": round(getattr(device, f"{part}_bytes") + by * MIB) for part, by in (probe or {}).items()}
    formula_device = replace(device, compute_bytes=device.compute_bytes + round(formula * MIB))
    values: dict[str, Any] = {
        "case": Case("qwen3-0.6b", layers="auto"),
        "runtime": replace(said, devices=(replace(device, **moved),)),
        "formula": replace(said, devices=(formula_device,)),
        "formula_keeps": True,
        "loaded": parse_load_log(LOG.format(layers=layers)),
        "seconds": 1.0,
        "versions": "Ollama x",
    }
    return Row(**{**values, **changes})


def test_a_row_that_is_right_has_no_fault() -> None:
    assert row().faults() == []


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        ({"probe": {"kv": 1.1}}, "probe: kv off by +1.10 MiB"),
        ({"probe": {"weights": -1.1}}, "probe: weights off by -1.10 MiB"),
        ({"probe": {"state": 1.5}}, "probe: state off by +1.50 MiB"),
        ({"formula": 22}, "closed form: off by +22.00 MiB"),
        ({"formula": -7.5}, "closed form: short by 7.50 MiB"),
        ({"layers": "28/29"}, "probe: 29/29 layers, the log has 28/29"),
        ({"formula_keeps": False}, "closed form: it said it spills"),
        ({"loaded": parse_load_log("nothing")}, "it did not load: no buffers in the log"),
    ],
)
def test_what_breaks_the_bar_is_named(broken: dict[str, Any], fault: str) -> None:
    assert fault in row(**broken).faults()


@pytest.mark.parametrize("within", [{"probe": {"kv": 0.9}}, {"formula": 20}, {"formula": -7}])
def test_what_keeps_the_bar_is_no_fault(within: dict[str, Any]) -> None:
    assert row(**within).faults() == []


def test_the_page_has_a_line_for_every_load_and_counts_those_within_the_bar() -> None:
    text = page([row(), row(probe={"kv": 2})])
    assert "- 1 of 2 rows within the bar." in text
    assert sum(line.startswith("| qwen3-0.6b Q4_K_M |") for line in text.splitlines()) == 2
    assert "probe: kv off by +2.00 MiB |" in text


def test_the_cases_reach_over_all_that_was_promised() -> None:
    assert len(CASES) >= 20
    assert {c.kv for c in CASES} >= {"f16", "q8_0", "q4_0"}
    assert {c.edge for c in CASES} == {"", "below", "above"}
    assert {str(c.layers) for c in CASES} >= {"all", "auto", "10"}
    assert sum(c.vision is not None for c in CASES) >= 4
