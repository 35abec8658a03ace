"""Quant labels, bits per weight and the order of quants."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from qwenops.model.ggml_types import FILE_TYPES
from qwenops.model.gguf_header import read_header
from qwenops.model.quants import (
    WHOLE_FILE_BITS,
    bits_per_weight,
    label_in_name,
    majority_type,
    parameter_count,
    quality_rank,
    quant_label,
)
from tests.model.make import model_file


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Qwen3-VL-8B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("Qwen3VL-8B-Instruct-Q8_0.gguf", "Q8_0"),
        ("qwen2.5-vl-7b-instruct-q4_k_m-00001-of-00002.gguf", "Q4_K_M"),
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ("Qwen3-VL-4B-Instruct-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("Qwen3-VL-4B-Instruct-UD-IQ2_XXS.gguf", "UD-IQ2_XXS"),
        ("model.i1-IQ4_XS.gguf", "IQ4_XS"),
        ("model-IQ4_NL.gguf", "IQ4_NL"),
        ("model-Q2_K.gguf", "Q2_K"),
        ("model-Q6_K_L.gguf", "Q6_K_L"),
        ("model-TQ1_0.gguf", "TQ1_0"),
        ("gpt-oss-20b-MXFP4.gguf", "MXFP4"),
        ("Qwen3.5-35B-A3B-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("model-NVFP4.gguf", "NVFP4"),
        ("model-BF16.gguf", "BF16"),
        ("model_fp16.gguf", "F16"),
        ("mmproj-model-f16.gguf", "F16"),
        ("model-F32.gguf", "F32"),
        ("Q4_0-of-what-Q5_K_S.gguf", "Q5_K_S"),
        ("Qwen3VL.gguf", None),
        ("sha256-4f16e6b0.gguf", None),
        ("model-Q99_K.gguf", None),
        ("model-xQ4_K_M.gguf", None),
    ],
)
def test_a_label_is_found_in_a_file_name(name: str, label: str | None) -> None:
    assert label_in_name(name) == label


@pytest.mark.parametrize("label", [f for f in FILE_TYPES.values() if not f.startswith(("Q1_", "Q2_0"))])
def test_every_file_type_is_found_in_a_name(label: str) -> None:
    assert label_in_name(f"Some-Model-7B-{label}.gguf") == label


@pytest.mark.parametrize(
    ("name", "file_type", "types", "label"),
    [
        ("m-Q5_K_M.gguf", 15, (12,), "Q5_K_M"),
        ("m.gguf", 15, (12,), "Q4_K_M"),
        ("m.gguf", 1024 + 7, (8,), "Q8_0"),
        ("m.gguf", 1024, (8, 0), "F32"),
        ("m.gguf", 999, (0, 8, 8, 8, 8, 8), "Q8_0"),
        ("m.gguf", None, (39,), "MXFP4"),
    ],
)
def test_a_model_is_named_by_its_file_then_its_file_type_then_its_tensors(
    tmp_path: Path, name: str, file_type: int | None, types: tuple[int, ...], label: str
) -> None:
    keys = {} if file_type is None else {"general__file_type": file_type}
    tensors = tuple((f"t{i}", (256, 2), kind) for i, kind in enumerate(types))
    path = model_file(tmp_path / name, "llama", tensors, **keys)
    assert quant_label(read_header(path), name) == label


def test_bytes_are_counted_from_the_tensors(tmp_path: Path) -> None:
    path = model_file(tmp_path / "m-Q8_0.gguf", "llama", (("a", (256, 4), 8), ("b", (256,), 0)))
    header = read_header(path)
    assert parameter_count(header) == 1280
    assert bits_per_weight(header) == 8 * (1024 * 34 / 32 + 1024) / 1280
    assert majority_type(header) == "Q8_0"


BEST_LAST = (
    "Q1_0", "TQ1_0", "IQ1_S", "TQ2_0", "IQ1_M", "IQ2_XXS", "UD-IQ2_XXS", "IQ2_XS", "IQ2_M", "Q2_K", "Q2_K_L",
    "IQ3_XXS", "Q3_K_S", "IQ3_M", "Q3_K_M", "UD-Q3_K_XL", "Q3_K_L", "MXFP4_MOE", "IQ4_XS", "NVFP4", "Q4_0",
    "Q4_K_S", "IQ4_NL", "Q4_K_M", "UD-Q4_K_M", "Q4_K_L", "UD-Q4_K_XL", "Q4_1", "Q5_0", "Q5_K_S", "Q5_K_M",
    "UD-Q5_K_XL", "Q5_1", "Q6_K", "Q6_K_L", "UD-Q6_K_XL", "Q8_0", "UD-Q8_K_XL", "F16", "BF16", "F32",
)  # fmt: skip


@pytest.mark.parametrize(("worse", "better"), list(pairwise(BEST_LAST)))
def test_a_quant_with_more_bits_ranks_higher(worse: str, better: str) -> None:
    assert quality_rank(worse) < quality_rank(better)


def test_the_rank_of_a_measured_quant_is_its_bits_per_weight() -> None:
    assert all(quality_rank(q) == bits for q, bits in WHOLE_FILE_BITS.items())


@pytest.mark.parametrize(("odd", "rank"), [("", 0.0), ("unknown", 0.0), ("q4", 4.0), ("type 99", 99.0)])
def test_a_name_that_nobody_knows_ranks_by_its_digits(odd: str, rank: float) -> None:
    assert quality_rank(odd) == rank
