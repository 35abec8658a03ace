"""From what a library said to a need: its own figures where they bear each other out, the whole spread where not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from qwenops.machine.types import Device
from qwenops.memory.closed_form import closed_form
from qwenops.memory.dry_load_parts import exact_need, read_said, spread_need
from qwenops.memory.types import LoadSettings
from tests.support.shapes import TEXT, text_model

MIB = 1024**2
CARD = Device("Vulkan0", "vulkan", "llvmpipe (LLVM 15.0.6, 256 bits)", 2048 * MIB, 2048 * MIB)
SETTINGS = LoadSettings(num_ctx=4096, gpu_layers=10)
MODEL = text_model(TEXT["qwen3.5-0.8b"])
FORMULA = closed_form(MODEL, SETTINGS, (CARD,))
ON_HOST = closed_form(MODEL, SETTINGS, ()).host
# As the child answered for this model, with 10 of 25 layers on Mesa's software GPU.
LOG = [
    "llama_context: flash_attn            = auto",
    "llama_context: Vulkan_Host  output buffer size =     0.95 MiB",
    "llama_kv_cache:        CPU KV buffer size =     0.00 MiB",
    "llama_kv_cache:    Vulkan0 KV buffer size =     0.00 MiB",
    "llama_kv_cache: size =   48.00 MiB (  4096 cells,   6 layers,  1/1 seqs), K (f16):   24.00 MiB, V (f16):   24.00 "
    "MiB",
    "llama_memory_recurrent:        CPU RS buffer size =    12.84 MiB",
    "llama_memory_recurrent:    Vulkan0 RS buffer size =     6.42 MiB",
    "llama_memory_recurrent: size =   19.27 MiB (     1 cells,  24 layers,  1 seqs  0 rs_seq), R (f32):    1.27 MiB, "
    "S (f32):   18.00 MiB, P (f32):    0.00 MiB",
    "resolve_fused_ops: Flash Attention enabled",
    "sched_reserve:    Vulkan0 compute buffer size =    43.87 MiB",
    "sched_reserve: Vulkan_Host compute buffer size =    18.09 MiB",
]
BREAKDOWN: list[dict[str, Any]] = [
    {"device": "Vulkan0", "model": 109168384, "context": 31899648, "compute": 46002176},
    {"device": None, "model": 184358400, "context": 0, "compute": 18964608},
    {"device": None, "model": 208588800, "context": 38633472, "compute": 0},
]
STATE = 20201472


def said(**changes: Any) -> Any:
    return read_said({"log": LOG, "breakdown": BREAKDOWN, **changes})


def test_the_librarys_breakdown_is_taken_to_the_byte() -> None:
    need = exact_need(FORMULA, said(), "0.3.36")
    (card,) = need.devices
    assert (card.weights_bytes, card.compute_bytes) == (109168384, 46002176)
    assert card.kv_bytes + card.state_bytes == 31899648
    assert card.kv_bytes == 24 * MIB
    assert need.host.weights_bytes == 184358400 + 208588800
    assert need.host.kv_bytes + need.host.state_bytes == 38633472
    assert need.host.compute_bytes == 18964608
    assert card.state_bytes + need.host.state_bytes == STATE
    assert need.flash_attn is True
    assert {need.sources[p] for p in ("weights", "kv", "state", "compute")} == {"dry load"}
    assert need.band.low <= need.total_device_bytes <= need.band.high


@pytest.mark.parametrize(
    ("mmap", "more_mib", "counted_mib"),
    [(True, 91, 0), (True, -1, -1), (False, 91, 91)],
    ids=["mapped", "less", "read"],
)
def test_a_tied_head_that_the_library_counts_twice_is_mapped_once(mmap: bool, more_mib: int, counted_mib: int) -> None:
    formula = closed_form(MODEL, replace(SETTINGS, mmap=mmap), ())
    whole = formula.host.weights_bytes
    log = [
        "llama_kv_cache: size =   48.00 MiB (  4096 cells,   6 layers,  1/1 seqs), K (f16):   24.00 MiB, V (f16):   24 "
        "MiB",
        "sched_reserve:        CPU compute buffer size =    60.00 MiB",
    ]
    breakdown = [{"device": None, "model": whole + more_mib * MIB, "context": 48 * MIB, "compute": 60 * MIB}]
    need = exact_need(formula, said(log=log, breakdown=breakdown), "0.3.36")
    assert need.host.weights_bytes == whole + counted_mib * MIB


@pytest.mark.parametrize(
    "breakdown",
    [
        None,
        [{**row, "compute": row["compute"] * 3} for row in BREAKDOWN],
        [{**row, "context": 0} for row in BREAKDOWN],
        [{"device": None, "model": 1 << 60, "context": 1 << 61, "compute": 7}],
    ],
    ids=["no breakdown", "another compute", "no cache", "not a map at all"],
)
def test_without_a_breakdown_that_the_log_bears_out_the_log_and_the_tensor_table_answer(breakdown: Any) -> None:
    need = exact_need(FORMULA, said(breakdown=breakdown), "0.3.36")
    (card,) = need.devices
    assert card.compute_bytes == round(43.87 * MIB)
    assert (card.weights_bytes, card.kv_bytes) == (FORMULA.devices[0].weights_bytes, 24 * MIB)
    assert card.state_bytes == FORMULA.devices[0].state_bytes
    assert need.sources["weights"] == "closed form"
    assert need.sources["compute"] == "dry load"


def test_a_state_and_an_output_that_the_formula_did_not_foresee_are_the_librarys() -> None:
    other = [line.replace("0.95 MiB", "3.00 MiB").replace("6.42 MiB", "9.42 MiB") for line in LOG]
    need = exact_need(FORMULA, said(log=other), "0.3.36")
    assert need.devices[0].state_bytes == round(9.42 * MIB)
    assert need.host.output_bytes == 3 * MIB


def test_another_build_may_serve_the_model_so_the_band_reaches_as_far_as_the_formulas() -> None:
    server = exact_need(FORMULA, said(), "0.3.36")
    library = exact_need(replace(FORMULA, settings=replace(SETTINGS, outputs="library")), said(), "0.3.36")
    assert library.band.high - library.band.low <= MIB
    assert server.band.low <= FORMULA.band.low
    assert server.band.high >= FORMULA.band.high


def on_the_host(kv_mib: float, weights: int, state_mib: float = 19.27) -> Any:
    log = [
        f"llama_kv_cache: size = {kv_mib:8.2f} MiB (  4096 cells,   6 layers,  1/1 seqs)",
        f"llama_memory_recurrent: size = {state_mib:8.2f} MiB (     1 cells,  24 layers,  1 seqs)",
        "sched_reserve:        CPU compute buffer size =    46.00 MiB",
    ]
    context = round((kv_mib + state_mib) * MIB)
    breakdown = [{"device": None, "model": weights, "context": context, "compute": 46 * MIB}]
    return said(log=log, breakdown=breakdown)


def test_totals_that_bear_the_formula_out_leave_its_figures_as_they_are() -> None:
    need = spread_need(FORMULA, on_the_host(48.0, ON_HOST.weights_bytes), ON_HOST, "0.3.36")
    assert need.devices == FORMULA.devices
    assert need.host == FORMULA.host
    assert (need.sources["kv"], need.sources["compute"]) == ("dry load", "closed form")


def test_other_totals_are_spread_in_the_formulas_shares() -> None:
    need = spread_need(FORMULA, on_the_host(96.0, 2 * ON_HOST.weights_bytes), ON_HOST, "0.3.36")
    before, after = FORMULA.devices[0], need.devices[0]
    assert (after.kv_bytes, need.host.kv_bytes) == (48 * MIB, 48 * MIB)
    assert after.weights_bytes == 2 * before.weights_bytes
    assert after.compute_bytes == before.compute_bytes
    moved = need.total_device_bytes - FORMULA.total_device_bytes
    assert need.band.low == FORMULA.band.low + moved
    assert need.band.high == FORMULA.band.high + moved


def test_what_the_formula_knows_nothing_of_stays_its_own() -> None:
    blind = replace(FORMULA, devices=(replace(FORMULA.devices[0], state_bytes=0),))
    need = spread_need(blind, on_the_host(48.0, ON_HOST.weights_bytes), replace(ON_HOST, state_bytes=0), "0.3.36")
    assert need.sources["state"] == "closed form"
    assert need.sources["kv"] == "dry load"
