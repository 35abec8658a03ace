"""Rows of llama-bench of several ages become rows of the history; the newest from the real tool."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from qwenops.bench.llama_bench import from_llama_bench, is_llama_bench
from qwenops.errors import BadInput

OF_2023 = {  # fields of the first builds that had JSON: flags for the backends, no depth, no ubatch
    "build_commit": "3f167476",
    "build_number": 1273,
    "cuda": True,
    "opencl": False,
    "metal": False,
    "gpu_blas": True,
    "blas": True,
    "cpu_info": "13th Gen Intel(R) Core(TM) i9-13900K",
    "gpu_info": "NVIDIA GeForce RTX 3090 Ti",
    "model_filename": "models/7B/ggml-model-q4_0.gguf",
    "model_type": "llama 7B mostly Q4_0",
    "model_size": 3825065984,
    "model_n_params": 6738415616,
    "n_batch": 512,
    "n_threads": 16,
    "f16_kv": True,
    "n_gpu_layers": 99,
    "main_gpu": 0,
    "mul_mat_q": True,
    "tensor_split": "0.00",
    "n_prompt": 512,
    "n_gen": 0,
    "test_time": "2023-09-23T12:09:01Z",
    "avg_ns": 212_000_000,
    "stddev_ns": 1_000_000,
    "avg_ts": 2415.0,
    "stddev_ts": 11.0,
    "samples_ns": [256_000_000, 128_000_000],
}
OF_2025 = {
    **{k: v for k, v in OF_2023.items() if k not in ("cuda", "opencl", "metal", "gpu_blas", "blas", "f16_kv")},
    "build_number": 5318,
    "backends": "CUDA",
    "model_filename": "C:\\models\\Qwen2.5-VL-7B-Instruct-Q4_K_M.gguf",
    "model_type": "qwen2vl 7B Q4_K - Medium",
    "type_k": "q8_0",
    "type_v": "q8_0",
    "n_ubatch": 256,
    "flash_attn": True,
    "n_prompt": 0,
    "n_gen": 128,
    "n_depth": 4096,
    "samples_ts": [71.5, 70.5, 71.0],
}


def test_a_row_of_2023_keeps_its_time_its_card_and_every_repetition() -> None:
    row = from_llama_bench(OF_2023)
    assert row.created == datetime(2023, 9, 23, 12, 9, 1, tzinfo=timezone.utc)
    assert (row.kind, row.test, row.unit, row.samples) == ("speed", "pp512", "t/s", (2000.0, 4000.0))
    assert (row.model, row.quant) == ("ggml-model", "Q4_0")
    assert (row.engine, row.device) == ("llama-bench b1273", "NVIDIA GeForce RTX 3090 Ti")
    assert row.settings["threads"] == 16
    assert row.machine == {"cpu_info": OF_2023["cpu_info"], "gpu_info": OF_2023["gpu_info"]}


def test_a_row_of_2025_has_depth_kv_type_and_flash_attention() -> None:
    row = from_llama_bench(OF_2025)
    assert (row.test, row.samples) == ("tg128 @ d4096", (71.5, 70.5, 71.0))
    assert (row.model, row.quant) == ("Qwen2.5-VL-7B-Instruct", "Q4_K_M")
    assert {k: row.settings[k] for k in ("kv_type", "ubatch", "batch", "flash_attn", "gpu_layers", "repetitions")} == {
        "kv_type": "q8_0",
        "ubatch": 256,
        "batch": 512,
        "flash_attn": "on",
        "gpu_layers": 99,
        "repetitions": 3,
    }


@pytest.mark.parametrize(
    ("change", "where", "test"),
    [
        ({"n_gpu_layers": 0}, "CPU", "pp512"),
        ({"cuda": False, "gpu_info": ""}, "CPU", "pp512"),
        ({"backends": "CPU", "gpu_info": ""}, "CPU", "pp512"),
        ({"backends": "BLAS,CPU"}, "CPU", "pp512"),
        ({"backends": "Vulkan,BLAS", "gpu_info": ""}, "Vulkan", "pp512"),
        ({"n_gen": 128}, "NVIDIA GeForce RTX 3090 Ti", "pp512+tg128"),
    ],
)
def test_where_it_ran_and_what_was_run(change: dict[str, Any], where: str, test: str) -> None:
    row = from_llama_bench({**OF_2023, **change})
    assert (row.device, row.test) == (where, test)


def test_the_quant_is_the_file_names_or_else_the_one_llama_bench_says() -> None:
    row = from_llama_bench({**OF_2025, "model_filename": "/m/eyes.gguf"})
    assert (row.model, row.quant) == ("eyes", "Q4_K_M")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_prompt": 0}, "measured nothing"),
        ({"n_prompt": "512"}, "n_prompt is '512'"),
        ({"n_prompt": True}, "n_prompt is True"),
        ({"n_gen": -1}, "n_gen is -1"),
        ({"n_depth": 2**40}, "n_depth"),
        ({"samples_ns": []}, "samples_ns is not a list"),
        ({"samples_ns": [0]}, "0, which is no speed"),
        ({"samples_ts": [1.0, None]}, "None, which is no speed"),
        ({"samples_ts": "12"}, "samples_ts is not a list"),
        ({"model_filename": ""}, "model_filename is missing"),
        ({"test_time": "yesterday"}, "test_time 'yesterday'"),
        ({"test_time": None}, "test_time None"),
    ],
)
def test_what_cannot_be_is_named_by_its_field(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        from_llama_bench({**OF_2023, **change})


def test_other_json_is_no_row_of_llama_bench() -> None:
    assert is_llama_bench(OF_2023)
    assert not is_llama_bench({"n_prompt": 1, "n_gen": 2})
