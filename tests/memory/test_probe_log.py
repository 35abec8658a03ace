"""What llama-server prints about memory, read from logs of b10434 that were kept as they came."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.memory.probe_log import (
    FitLog,
    first_trial_is_done,
    fit_is_done,
    parse_fit_log,
    parse_load_log,
)
from qwenops.memory.types import Layers

LOGS = Path(__file__).parent / "logs"
MIB = 1024**2

# Ollama writes its own lines between those of its child, and several loads go into one file.
OLLAMA_LOG = """\
time=2026-11-24T23:20:01.000Z level=INFO source=llama_server.go:431 msg="starting llama-server" \
cmd="/opt/ollama/lib/ollama/llama-server --model /store/blobs/sha256-aaaa --port 1 -c 4096"
llama_prepare_model_devices: using device CUDA0 (NVIDIA GeForce RTX 3060) (0000:01:00.0) - 11853 MiB free
load_tensors: loading model tensors, this can take a while... (load_mode = mmap)
load_tensors: offloaded 29/29 layers to GPU
load_tensors:   CPU_Mapped model buffer size =   166.92 MiB
load_tensors:        CUDA0 model buffer size =   923.39 MiB
llama_context: constructing llama_context
llama_context: n_ctx                 = 4096
llama_context: flash_attn            = auto
llama_context:  CUDA_Host  output buffer size =     0.58 MiB
llama_kv_cache:      CUDA0 KV buffer size =   448.00 MiB
resolve_fused_ops: Flash Attention enabled
sched_reserve:      CUDA0 compute buffer size =   301.75 MiB
sched_reserve:  CUDA_Host compute buffer size =    12.01 MiB
sched_reserve:      CUDA0 compute buffer size =   311.75 MiB
time=2026-11-24T23:20:09.000Z level=INFO source=llama_server.go:431 msg="starting llama-server" \
cmd="/opt/ollama/lib/ollama/llama-server --model /store/blobs/sha256-bbbb --port 2 -c 8192 --mmproj /store/blobs/p"
common_params_fit_impl:   - CUDA0 (RTX 3060)  : 21 layers ( 3 overflowing),   9000 MiB used,   1853 MiB free
common_fit_params: fitting params to free memory took 0.42 seconds
llama_prepare_model_devices: using device CUDA0 (NVIDIA GeForce RTX 3060) (0000:01:00.0) - 10002 MiB free
load_tensors: loading model tensors, this can take a while... (load_mode = mmap)
load_tensors: offloaded 21/49 layers to GPU
load_tensors:   CPU_Mapped model buffer size =  8192.25 MiB
load_tensors:        CUDA0 model buffer size =  7000.50 MiB
llama_context: constructing llama_context
llama_context: n_ctx                 = 8192
llama_context: flash_attn            = disabled
llama_kv_cache:        CPU KV buffer size =   100.00 MiB
llama_kv_cache:      CUDA0 KV buffer size =   200.00 MiB
llama_memory_recurrent:      CUDA0 RS buffer size =    19.27 MiB
sched_reserve:      CUDA0 compute buffer size =   154.00 MiB
clip_ctx: CLIP using CUDA0 backend
load_hparams: model size:         781.25 MiB
load_hparams: metadata size:      0.11 MiB
reserve_compute_meta:      CUDA0 compute buffer size =   372.08 MiB
reserve_compute_meta:        CPU compute buffer size =    24.93 MiB
"""


def read(name: str) -> str:
    return (LOGS / name).read_text("utf-8")


@pytest.fixture(scope="module")
def spilled() -> FitLog:
    """A 1.7B model whose 1252 MiB do not fit 2048 less the 1024 that stay free."""
    return parse_fit_log(read("fit-spilled.txt"))


# --- the fit


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


# --- the load


def test_only_the_newest_load_of_a_server_log_counts() -> None:
    load = parse_load_log(OLLAMA_LOG)
    assert load.command is not None
    assert "sha256-bbbb" in load.command
    assert load.layers == Layers(21, 49)
    assert load.overflowing_layers == 3
    assert load.free_bytes == {"CUDA0": 10002 * MIB}
    assert (load.n_ctx, load.flash_attn) == (8192, False)
    assert load.device_bytes("CUDA0", "model") == round(7000.5 * MIB)
    assert load.device_bytes("CUDA0", "KV") == 200 * MIB
    assert load.device_bytes("CUDA0", "RS") == round(19.27 * MIB)
    assert load.device_bytes("CUDA0", "compute") == 154 * MIB
    assert load.host_bytes("KV") == 100 * MIB


def test_the_projector_is_kept_apart_from_the_text_model() -> None:
    load = parse_load_log(OLLAMA_LOG)
    assert load.device_bytes("CUDA0", "compute", projector=True) == round(372.08 * MIB)
    assert load.host_bytes("compute", projector=True) == round(24.93 * MIB)
    assert (load.projector_bytes("CUDA0"), load.projector_bytes("CPU")) == (round(781.25 * MIB), 0)


def test_a_load_is_found_by_the_digest_of_its_model() -> None:
    load = parse_load_log(OLLAMA_LOG, model="sha256-aaaa")
    assert load.layers == Layers(29, 29)
    assert load.flash_attn is True
    # The graph was reserved twice: the last line counts, as in Ollama.
    assert load.device_bytes("CUDA0", "compute") == round(311.75 * MIB)
    assert load.devices == ("CUDA0",)
    assert load.host_bytes() == sum(round(m * MIB) for m in (166.92, 0.58, 12.01))
    assert parse_load_log(OLLAMA_LOG, model="sha256-cccc").complete is False


def test_trials_of_the_fit_are_not_taken_for_the_load() -> None:
    load = parse_load_log(read("fit-spilled.txt"))
    assert load.layers == Layers(23, 29)
    assert load.device_bytes("Vulkan0", "model") == round(594.37 * MIB)
    assert load.device_bytes("Vulkan0", "KV") == 352 * MIB
    assert load.complete


def test_the_two_caches_of_a_model_with_sliding_windows_add_up_and_graphs_do_not() -> None:
    text = """\
llama_context: constructing llama_context
llama_kv_cache_iswa: creating non-SWA KV cache, size = 4096 cells
llama_kv_cache:      CUDA0 KV buffer size =     8.00 MiB
llama_kv_cache: size =    8.00 MiB (  4096 cells,   2 layers,  1/1 seqs), K (f16):    4.00 MiB, V (f16):    4.00 MiB
llama_kv_cache_iswa: creating     SWA KV cache, size = 1024 cells
llama_kv_cache:      CUDA0 KV buffer size =    10.00 MiB
llama_kv_cache: size =   10.00 MiB (  1024 cells,  10 layers,  1/1 seqs), K (f16):    5.00 MiB, V (f16):    5.00 MiB
sched_reserve:      CUDA0 compute buffer size =    40.00 MiB
sched_reserve:      CUDA0 compute buffer size =    44.00 MiB
"""
    lines = parse_load_log(text)
    assert lines.device_bytes("CUDA0", "KV") == 18 * MIB
    assert lines.device_bytes("CUDA0", "compute") == 44 * MIB


def test_a_second_context_is_a_drafts() -> None:
    context = (
        "llama_context: constructing llama_context\n"
        "llama_kv_cache:  CUDA0 KV buffer size = 100.00 MiB\n"
        "sched_reserve:  CUDA0 compute buffer size = 10.00 MiB\n"
    )
    tensors = (
        "load_tensors: loading model tensors, this can take a while\nload_tensors: CUDA0 model buffer size = 5.00 MiB\n"
    )
    head = parse_load_log(tensors + context * 2)
    assert (head.device_bytes("CUDA0"), head.draft_bytes("CUDA0")) == (115 * MIB, 110 * MIB)
    model = parse_load_log((tensors + context) * 2)
    assert (model.device_bytes("CUDA0"), model.draft_bytes("CUDA0")) == (115 * MIB, 115 * MIB)
    assert model.draft_bytes(None) == 0


@pytest.mark.parametrize(
    ("backend", "on_host", "device"),
    [
        ("CUDA0", False, "CUDA0"),
        ("MTL0_Mapped", False, "MTL0"),
        ("MTL0_Private", False, "MTL0"),
        ("Vulkan1", False, "Vulkan1"),
        ("CPU", True, "CPU"),
        ("CPU_Mapped", True, "CPU"),
        ("CPU_REPACK", True, "CPU"),
        ("CUDA_Host", True, "CUDA_Host"),
        ("Vulkan_Host", True, "Vulkan_Host"),
        ("BLAS", True, "BLAS"),
    ],
)
def test_buffer_types_belong_to_a_device_or_to_the_host(backend: str, on_host: bool, device: str) -> None:
    (line,) = parse_load_log(f"load_tensors: {backend} model buffer size = 1.00 MiB\n").buffers
    assert (line.on_host, line.device) == (on_host, device)


def test_a_load_that_failed_says_by_which_line() -> None:
    text = (
        "llama_prepare_model_devices: using device CUDA0 (x) (y) - 900 MiB free\n"
        "ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory\n"
        "llama_model_load: error loading model: unable to allocate CUDA0 buffer\n"
    )
    load = parse_load_log(text)
    assert not load.complete
    assert load.error is not None
    assert "out of memory" in load.error


@given(st.text(max_size=400), st.integers(0, 40))
def test_no_text_makes_the_readers_fail(noise: str, line: int) -> None:
    lines = read("fit-with-projector.txt").splitlines()
    text = "\n".join([*lines[:line], noise, *lines[line:]])
    parse_fit_log(text)
    parse_load_log(text)
    parse_load_log(noise)
