"""What a load logs of its buffers, read from logs of b10434 that were kept as they came."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.memory.load_log import parse_load_log
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
def test_no_text_makes_the_reader_fail(noise: str, line: int) -> None:
    lines = read("fit-with-projector.txt").splitlines()
    parse_load_log("\n".join([*lines[:line], noise, *lines[line:]]))
    parse_load_log(noise)
