"""The sweep that holds the ladder against real loads says no when it must."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenops.memory.load_log import parse_load_log
from qwenops.memory.types import Band, DeviceNeed, HostNeed, Layers, LoadSettings, Need
from scripts.verify.__main__ import main, spread
from scripts.verify.cases import BLOCK_OF_CACHES, Case, fitting_cut, grid
from scripts.verify.page import page
from scripts.verify.rows import Row, Verdict, loaded_from, said_by
from scripts.verify.sweep import Kept

MIB = 1024**2
LOG = """\
load_tensors: offloaded {layers} layers to GPU
load_tensors:      Vulkan0 model buffer size =   236.50 MiB
llama_kv_cache:    Vulkan0 KV buffer size =   448.00 MiB
sched_reserve:    Vulkan0 compute buffer size =    30.00 MiB
sched_reserve: Vulkan_Host compute buffer size =     8.00 MiB
load_hparams: model size:         100.00 MiB
clip_ctx: CLIP using Vulkan0 backend
reserve_compute_meta:    Vulkan0 compute buffer size =   200.00 MiB
"""
DEVICE = DeviceNeed(
    "Vulkan0",
    "vulkan",
    2048 * MIB,
    weights_bytes=round(236.5 * MIB),
    kv_bytes=448 * MIB,
    compute_bytes=30 * MIB,
    projector_bytes=100 * MIB,
    encoder_bytes=200 * MIB,
)


def need(**moved: float) -> Need:
    """What the log below will show, but for the parts that are moved, in MiB."""
    parts = {f"{part}_bytes": round(getattr(DEVICE, f"{part}_bytes") + by * MIB) for part, by in moved.items()}
    device = replace(DEVICE, **parts)  # type: ignore[arg-type]
    return Need(
        rung="runtime",
        settings=LoadSettings(),
        devices=(device,),
        host=HostNeed(compute_bytes=8 * MIB),
        layers=Layers(29, 29),
        band=Band(device.total_bytes - 10 * MIB, device.total_bytes + 10 * MIB),
        sources={},
    )


def row(
    *,
    probe: dict[str, float] | None = None,
    formula: dict[str, float] | None = None,
    layers: str = "29/29",
    log: str = LOG,
    **changes: Any,
) -> Row:
    """A row that is right in every figure but those that are moved."""
    values: dict[str, Any] = {
        "case": Case("qwen3-0.6b", layers="auto"),
        "num_ctx": 4096,
        "target_mib": None,
        "probe": said_by(need(**(probe or {}))),
        "formula": said_by(need(**(formula or {}))),
        "loaded": loaded_from(parse_load_log(log.format(layers=layers)), ("Vulkan0",)),
        "versions": "llama-server x",
    }
    return Row(**{**values, **changes})


def verdict(*, probe: bool = True, formula: str = "yes") -> Verdict:
    return Verdict(1000 * MIB, 1010 * MIB, probe_keeps=probe, formula=formula, formula_keeps=formula == "yes")


def test_a_row_that_is_right_has_no_fault() -> None:
    assert row().faults() == []


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        ({"probe": {"kv": 1.1}}, "probe: kv off by +1.10 MiB"),
        ({"probe": {"weights": -1.1}}, "probe: weights off by -1.10 MiB"),
        ({"probe": {"state": 1.5}}, "probe: state off by +1.50 MiB"),
        ({"probe": {"projector": 0.1}}, "probe: projector off by +0.10 MiB"),
        ({"probe": {"encoder": -6.1}}, "probe: encoder off by -6.10 MiB"),
        ({"formula": {"kv": 0.1}}, "closed form: kv off by +0.10 MiB"),
        ({"formula": {"weights": -0.1}}, "closed form: weights off by -0.10 MiB"),
        ({"formula": {"compute": 51}}, "closed form: off by +51.00 MiB"),
        ({"formula": {"compute": -10.5}}, "closed form: short by 10.50 MiB"),
        ({"layers": "28/29"}, "probe: 29/29 layers, the log has 28/29"),
        ({"layers": "28/29"}, "closed form: 29/29 layers"),
        ({"verdict": verdict(probe=False)}, "probe: it said it spills"),
        ({"verdict": verdict(formula="no")}, "closed form: it said it spills"),
        ({"verdict": verdict(), "layers": "28/29"}, "probe: it said every layer fits"),
        ({"log": "nothing"}, "it did not load: no buffers in the log"),
    ],
)
def test_what_breaks_the_bar_is_named(broken: dict[str, Any], fault: str) -> None:
    assert fault in row(**broken).faults()


@pytest.mark.parametrize(
    "within",
    [
        {"probe": {"kv": 0.9}},
        {"probe": {"encoder": 5.9}},
        {"formula": {"compute": 50}},
        {"formula": {"compute": -10}},
        {"verdict": verdict(formula="too close")},
    ],
)
def test_what_keeps_the_bar_is_no_fault(within: dict[str, Any]) -> None:
    assert row(**within).faults() == []


@pytest.mark.parametrize(("off_mib", "inside"), [(0, True), (9.9, True), (-9.9, True), (10.1, False), (-10.1, False)])
def test_the_band_is_held_against_what_was_loaded(off_mib: float, inside: bool) -> None:
    assert row(formula={"compute": off_mib}).in_band is inside


def test_a_row_that_is_kept_is_the_same_when_it_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "loads.jsonl"
    first = replace(row(verdict=verdict(), notes=["a note"]), ghosts=Case("qwen3-0.6b").ghosts)
    Kept(path).add(first)
    with path.open("a") as file:
        file.write(json.dumps(first.as_data())[:50])  # a run that was cut short while it wrote
    assert Kept(path).rows == {first.case: first}


def test_a_row_of_another_file_and_if_asked_a_row_that_breaks_a_bar_are_loaded_again(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "loads.jsonl")
    broken = replace(row(probe={"kv": 2}), ghosts=Case("qwen3-0.6b").ghosts)
    of_another_file = replace(row(), case=Case("llama-3.2-1b"), ghosts=("0" * 64, None))
    kept.add(broken)
    kept.add(of_another_file)
    kept.add(replace(row(), case=Case("a shape that was taken away")))
    again = Kept(tmp_path / "loads.jsonl")
    assert again.rows == {broken.case: broken}
    again.forget_broken()
    assert again.rows == {}


def test_the_page_sums_up_every_architecture_and_shows_every_load() -> None:
    other = replace(row(probe={"kv": 2}), case=Case("llama-3.2-1b"), verdict=verdict(formula="too close"))
    lines = page([row(verdict=verdict()), other]).splitlines()
    assert any(line.startswith("- 1 of 2 loads of 2 architectures within every bar; ") for line in lines)
    assert "- llama-3.2-1b Q4_K_M, context 4096, f16, layers all: probe: kv off by +2.00 MiB" in lines
    summary = [line for line in lines if line.startswith(("| llama |", "| qwen3 |"))]
    assert [line.split(" | ")[4:11] for line in summary] == [
        ["+2.00", "0.00", "0.00", "1", "1", "0, 1, 0", "1 |"],
        ["0.00", "0.00", "0.00", "1", "1", "1, 0, 0", " |"],
    ]
    assert sum(line.startswith("| qwen3-0.6b Q4_K_M |") for line in lines) == 1


def test_the_grid_reaches_over_all_that_was_promised() -> None:
    cases = grid()
    assert len(cases) == len(set(cases)) >= 300
    assert len({c.dims.architecture for c in cases}) >= 20
    for architecture in {c.dims.architecture for c in cases}:
        of_it = [c for c in cases if c.dims.architecture == architecture]
        quantized = all(c.dims.head % BLOCK_OF_CACHES == 0 for c in of_it)
        assert {c.kv for c in of_it} == ({"f16", "q8_0", "q4_0"} if quantized else {"f16"})
        assert {c.flash_attn for c in of_it} == {"auto", "off"}
        assert {str(c.layers) for c in of_it} >= {"all", "half", "1", "auto"}
    assert sum(c.margin is not None and abs(c.margin) <= 2.5 for c in cases) >= 100
    assert sum(c.vision is not None for c in cases) >= 30
    assert sum(c.through == "ollama" for c in cases) >= 30
    assert sum(c.devices > 1 for c in cases) >= 5


def test_a_model_is_cut_only_where_a_small_device_would_not_hold_it() -> None:
    assert fitting_cut("qwen3-0.6b") == 0
    assert 4 <= fitting_cut("llama-3.1-8b") < 32
    assert fitting_cut("qwen3.6-27b") % 4 == 0


@pytest.mark.parametrize(("wanted", "expected"), [(0, [0, 1, 2, 3, 4, 5]), (3, [0, 2, 4]), (9, [0, 1, 2, 3, 4, 5])])
def test_a_sample_is_spread_over_the_whole_grid(wanted: int, expected: list[int]) -> None:
    assert spread(range(6), wanted) == expected


@pytest.mark.server
@pytest.mark.vulkan
@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        "qwen3-0.6b Q4_K_M, context 4096, f16, layers half",
        "qwen3-0.6b Q4_K_M, context 4096, f16, layers all, 2 devices",
        "qwen3-0.6b Q4_K_M, context 6000, q4_0, layers auto, limit at -0.001 %",
    ],
)
def test_a_load_for_real_is_asked_about_compared_and_kept(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["loads", "--only", case, "--keep", str(tmp_path), "--no-write"]) == 0, capsys.readouterr().err
    assert [str(kept) for kept in Kept(tmp_path / "loads.jsonl").rows] == [case]
