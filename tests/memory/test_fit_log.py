"""What llama-server prints of its fit, read from logs of b10434 that were kept as they came."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.memory.fit_log import FitLog, first_trial_is_done, fit_is_done, parse_fit_log
from qwenops.memory.types import Layers

LOGS = Path(__file__).parent / "logs"
MIB = 1024**2


def read(name: str) -> str:
    return (LOGS / name).read_text("utf-8")


@pytest.fixture(scope="module")
def spilled() -> FitLog:
    """A 1.7B model whose 1252 MiB do not fit 2048 less the 1024 that stay free."""
    return parse_fit_log(read("fit-spilled.txt"))


def test_every_trial_of_the_search_is_read_with_the_layers_it_tried(spilled: FitLog) -> None:
    assert [p.tries for p in spilled.passes] == [(), ((0, 0),), ((29, 0),), ((23, 0),), ((24, 0),)]


def test_the_chosen_trial_is_the_one_that_will_be_loaded_and_not_the_last_that_was_tried(spilled: FitLog) -> None:
    assert spilled.end == "spilled"
    assert spilled.chosen is spilled.passes[3]
    assert spilled.chosen.layers == Layers(23, 29)


def test_the_first_table_is_the_full_offload_rounded_down_to_whole_mib(spilled: FitLog) -> None:
    (device,) = spilled.passes[0].devices
    assert (device.name, device.description) == ("Vulkan0", "llvmpipe (LLVM 15.0.6, 256 bits)")
    figures = (device.total_bytes, device.free_bytes, device.self_bytes, device.model_bytes)
    assert figures == (2048 * MIB, 2048 * MIB, 1252 * MIB, 756 * MIB)
    assert (device.context_bytes, device.compute_bytes) == (448 * MIB, 48 * MIB)
    host = spilled.passes[0].row("Host")
    repacked = spilled.passes[0].row("CPU_REPACK")
    assert host is not None
    assert repacked is not None
    assert (host.free_bytes, host.model_bytes, host.compute_bytes) == (None, 166 * MIB, 12 * MIB)
    assert repacked.model_bytes == 166 * MIB


def test_caches_are_exact_and_name_the_device_of_every_layer(spilled: FitLog) -> None:
    chosen = spilled.chosen
    assert chosen is not None
    (cache,) = chosen.caches
    assert (cache.kind, cache.size_bytes, cache.cells) == ("KV", 448 * MIB, 4096)
    assert sum(1 for _, device in cache.layer_devices if device == "Vulkan0") == 22
    assert sum(1 for _, device in cache.layer_devices if device == "CPU") == 6


def test_a_fit_that_keeps_what_was_asked_is_answered_by_its_only_trial() -> None:
    fit = parse_fit_log(read("fit-with-projector.txt"))
    assert (fit.end, len(fit.passes)) == ("as asked", 1)
    assert fit.chosen is not None
    assert [c.kind for c in fit.chosen.caches] == ["KV", "RS"]
    assert fit.chosen.caches[1].layer_devices == ((0, "Vulkan0"), (1, "Vulkan0"), (2, "Vulkan0"))
    assert fit.chosen.flash_attn is True


def test_the_projector_is_a_sum_and_a_share_for_each_device() -> None:
    fit = parse_fit_log(read("fit-with-projector.txt"))
    assert fit.mmproj_bytes == round(75.28 * MIB)
    assert fit.mmproj_shares == {"Vulkan0": round(50.36 * MIB), "CPU": round(24.93 * MIB)}


def test_tables_of_the_verbosity_that_ollama_uses_are_enough() -> None:
    exact = re.compile(r"buffer size|: size = |layer +\d+|assigned to")
    text = "".join(line for line in read("fit-spilled.txt").splitlines(True) if not exact.search(line))
    fit = parse_fit_log(text)
    assert fit.end == "spilled"
    assert fit.chosen is not None
    assert fit.chosen.devices[0].self_bytes == 1007 * MIB
    assert fit.chosen.caches == ()


def test_two_devices_are_read_in_the_order_of_the_table_though_the_search_prints_them_back_to_front() -> None:
    def trial(a: str, b: str, tries: str) -> str:
        return (
            "load_tensors: loading model tensors, this can take a while... (load_mode = none)\n"
            "x: | memory breakdown [MiB] | total free self model context compute unaccounted |\n"
            f"x: |   - CUDA0 (RTX 3090)  | 24000 = 23000 + ({a}) + 1 |\n"
            f"x: |   - CUDA1 (RTX 3090)  | 24000 = 22000 + ({b}) + 1 |\n"
            "x: |   - Host              |                  9 = 8 + 0 + 1 |\n" + tries
        )

    text = (
        "common_params_fit_impl: getting device memory data for initial parameters:\n"
        + trial("30000 = 29000 + 900 + 100", "30001 = 29000 + 901 + 100", "")
        + trial(
            "21000 = 20000 + 900 + 100",
            "20000 = 19000 + 900 + 100",
            "common_params_fit_impl: id=0, n_layer=30, n_part= 0, overflow_type=4, mem= 21000 MiB\n"
            "common_params_fit_impl: id=1, n_layer=28, n_part= 0, overflow_type=4, mem= 20000 MiB\n",
        )
        + "common_params_fit_impl:   - CUDA1 (RTX 3090): 28 layers,  20000 MiB used,   2000 MiB free\n"
        + "common_params_fit_impl:   - CUDA0 (RTX 3090): 30 layers,  21000 MiB used,   2000 MiB free\n"
        + "common_fit_params: fitting params to free memory took 0.42 seconds\n"
    )
    fit = parse_fit_log(text)
    assert fit.chosen is fit.passes[1]
    assert [d.self_bytes // MIB for d in fit.chosen.devices] == [21000, 20000]


def test_a_trial_with_less_of_a_block_on_the_host_that_was_not_taken_is_not_the_answer() -> None:
    """Of three trials with as many layers and overflowing ones the middle one was kept: the third did not fit."""

    def trial(used: int, weights: int, overflow: int) -> str:
        return (
            "load_tensors: loading model tensors, this can take a while... (load_mode = none)\n"
            f"x: |   - CUDA0 (RTX 3090)  | 2048 = 2048 + ({used} = {weights} + 14 + 100) + 1 |\n"
            "x: |   - Host              |                  9 = 8 + 0 + 1 |\n"
            f"common_params_fit_impl: id=0, n_layer= 5, n_part= 2, overflow_type={overflow}, mem= {used} MiB\n"
        )

    text = (
        "common_params_fit_impl: getting device memory data for initial parameters:\n"
        + trial(595, 470, 4)
        + trial(639, 504, 2)
        + trial(686, 541, 3)
        + "common_params_fit_impl:   - CUDA0 (RTX 3090):  5 layers ( 2 overflowing),    639 MiB used,   1408 MiB free\n"
        + "common_fit_params: fitting params to free memory took 0.42 seconds\n"
    )
    fit = parse_fit_log(text)
    assert fit.overflowing_layers == 2
    assert fit.chosen is fit.passes[1]


@pytest.mark.parametrize("text", ["", "error: unknown model architecture: 'foo'\n", "usage: llama-server [options]\n"])
def test_without_a_table_there_is_no_answer(text: str) -> None:
    assert parse_fit_log(text).chosen is None


def test_the_lines_that_end_a_question_are_known() -> None:
    lines = read("fit-spilled.txt").splitlines()
    assert sum(map(first_trial_is_done, lines)) == 1
    assert sum(map(fit_is_done, lines)) == 1


@given(st.text(max_size=400), st.integers(0, 40))
def test_no_text_makes_the_reader_fail(noise: str, line: int) -> None:
    lines = read("fit-with-projector.txt").splitlines()
    parse_fit_log("\n".join([*lines[:line], noise, *lines[line:]]))
    parse_fit_log(noise)
