"""ExLlama's weights and caches are the sums of the arrays that its sources make of the files, to the byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenops.errors import BadInput
from qwenops.memory.exl import ExlSettings, estimator
from qwenops.memory.exl_cache import CacheBits, CacheShape, cache_bytes, expanded_bytes, parse_bits
from qwenops.memory.exl_weights import quantized_layers, weights_of
from qwenops.model.exl import read_exl
from scripts.compare_exl_reports import REPORTS, Report, need_of, within
from tests.support.exl import QWEN3_VL_8B, QWEN25_VL_7B, Dims, config, exl3_linear, ghost, tensors, write

SMALL2 = Dims(architecture="Qwen2_5_VLForConditionalGeneration")
SMALL3 = Dims()


def made(folder: Path, dims: Dims, engine: str, **rest: Any) -> Path:
    return write(folder, tensors(dims, engine, **rest), config(dims, engine, 4.0))


def arrays(folder: Path) -> dict[str, Any]:
    """Every tensor as the safetensors library loads it."""
    from safetensors.numpy import load_file

    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


def loaded_exl2(name: str, stored: dict[str, Any]) -> list[Any]:
    """What exllamav2 0.3.2 keeps of one layer: module.py load_weight, ext.py make_q_matrix and make_group_map_py."""
    layer = {part.rpartition(".")[2]: value for part, value in stored.items() if part.startswith(f"{name}.")}
    order = layer.pop("q_invperm")
    groups, rows = layer["q_groups"].tolist(), layer["q_weight"].shape[0]
    mapped: list[int] = []
    for i in range(len(groups) // 2):
        bits = max(groups[2 * i], 1)
        ends = groups[2 * i + 3] if i < len(groups) // 2 - 1 else rows
        count = (ends - groups[2 * i + 1]) * 32 // bits
        mapped += [i, count] * count
    short = order.astype(np.int16)
    return [*layer.values(), short, np.argsort(order).astype(np.int16), np.array(mapped, np.int16)]


def with_groups(table: dict[str, Any], bits: int, head_bits: int) -> dict[str, Any]:
    """The group tables that the converter writes: bits and the first row of each group of 32 inputs."""
    found = {}
    for name, value in table.items():
        if name.endswith(".q_groups"):
            width = head_bits if name.startswith("lm_head") else bits
            value = np.array([n for i in range(len(value) // 2) for n in (width, i * width)], np.int16)
        found[name] = value
    return found


def test_exl2_weights_are_the_arrays_that_the_loader_keeps(tmp_path: Path) -> None:
    folder = made(tmp_path / "model", SMALL2, "exl2")
    model = read_exl(folder)
    stored = with_groups(arrays(folder), 4, 6)
    layers = quantized_layers(model)
    device = sum(array.nbytes for name in layers for array in loaded_exl2(name, stored))
    parts = tuple(f"{name}." for name in layers)
    rest = {n: v for n, v in stored.items() if not n.startswith(parts)}
    vision = sum(v.nbytes for n, v in rest.items() if n.startswith("visual."))
    host = stored["model.embed_tokens.weight"].nbytes
    device += sum(v.nbytes for v in rest.values()) - vision - host
    assert weights_of(model).device_bytes == device
    assert (weights_of(model).vision_bytes, weights_of(model).host_bytes) == (vision, host)


@pytest.mark.parametrize("dims", [SMALL3, replace(SMALL3, tied=True), replace(SMALL3, draft=True)])
def test_exl3_weights_are_the_arrays_that_the_loader_keeps(tmp_path: Path, dims: Dims) -> None:
    folder = made(tmp_path / "model", dims, "exl3")
    stored, found = arrays(folder), weights_of(read_exl(folder))
    embedding = stored.pop("model.language_model.embed_tokens.weight")
    draft = sum(stored.pop(n).nbytes for n in list(stored) if n.startswith("mtp."))
    vision = sum(stored.pop(n).nbytes for n in list(stored) if n.startswith("model.visual."))
    device = sum(v.nbytes for v in stored.values()) + (embedding.astype(np.float16).nbytes if dims.tied else 0)
    assert (found.device_bytes, found.vision_bytes) == (device, vision)
    assert (found.host_bytes, found.unused_bytes) == (embedding.nbytes, draft)
    assert bool(draft) == dims.draft


def test_exl3_signs_that_are_packed_become_halves(tmp_path: Path) -> None:
    table = tensors(SMALL3, "exl3")
    old = {}
    for name, (kind, shape) in table.items():
        short = name.replace(".suh", ".su").replace(".svh", ".sv")
        old[short] = ("I16", (shape[0] // 16,)) if short != name else (kind, shape)
    packed = read_exl(write(tmp_path / "old", old, config(SMALL3, "exl3", 4.0)))
    unpacked = read_exl(made(tmp_path / "new", SMALL3, "exl3"))
    assert weights_of(packed).device_bytes == weights_of(unpacked).device_bytes


SHAPES = [CacheShape(2, 2, 128), CacheShape(36, 8, 128), CacheShape(28, 4, 128), CacheShape(16, 4, 256)]


def exl2_cache(shape: CacheShape, tokens: int, per_byte: tuple[int, int] | None) -> list[Any]:
    """The arrays of exllamav2 0.3.2, cache.py, create_state_tensors, for one layer."""
    if per_byte is None:
        return [np.zeros((1, tokens, shape.kv_heads, shape.head_dim), np.float16)] * 2
    stored = [np.zeros((1, tokens, shape.kv_heads, shape.head_dim // n), np.uint8) for n in per_byte]
    return [*stored, *[np.zeros((1, tokens, shape.kv_heads, shape.head_dim // 32), np.float16)] * 2]


def exl3_cache(shape: CacheShape, tokens: int, bits: tuple[int, int] | None) -> list[Any]:
    """The arrays of exllamav3 1.4.1, cache/fp16.py and cache/quant.py, for one layer."""
    pages = tokens // 256
    if bits is None:
        return [np.zeros((pages, 256, shape.kv_heads, shape.head_dim), np.float16)] * 2
    width = shape.kv_heads * shape.head_dim
    stored = [np.zeros((pages, 256, width // 32 * n), np.int32) for n in bits]
    return [*stored, *[np.zeros((pages, 256, width // 32), np.float16)] * 2]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("bits", "per_byte"), [(16, None), (8, (1, 1)), (6, (1, 2)), (4, (2, 2))])
def test_the_exl2_cache_is_the_sum_of_its_arrays(
    shape: CacheShape, bits: int, per_byte: tuple[int, int] | None
) -> None:
    layer = sum(a.nbytes for a in exl2_cache(shape, 1024, per_byte))
    assert cache_bytes("exl2", shape, 1024, CacheBits(bits, bits)) == shape.layers * layer
    beside = sum(a.nbytes for a in exl2_cache(shape, 1024, None)) if per_byte else 0
    assert expanded_bytes(shape, 1024, CacheBits(bits, bits)) == beside


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", [None, (8, 8), (6, 6), (4, 4), (6, 4), (2, 2), (5, 3)])
def test_the_exl3_cache_is_the_sum_of_its_arrays(shape: CacheShape, bits: tuple[int, int] | None) -> None:
    layer = sum(a.nbytes for a in exl3_cache(shape, 1024, bits))
    assert cache_bytes("exl3", shape, 1024, CacheBits(*(bits or (16, 16)))) == shape.layers * layer


def test_the_cache_of_a_known_model_is_what_is_said_of_it(tmp_path: Path) -> None:
    folder = ghost(tmp_path / "model", tensors(QWEN3_VL_8B, "exl3"), config(QWEN3_VL_8B, "exl3", 4.0))
    need = estimator(read_exl(folder)).need(ExlSettings(8192, CacheBits(16, 16)))
    assert need.cache_bytes == 8192 * 144 * 1024  # 144 KiB a token, as in every GGUF of it
    assert need.expanded_bytes == 0
    eight = estimator(read_exl(folder)).need(ExlSettings(8192, CacheBits(8, 8)))
    assert eight.cache_bytes == need.cache_bytes * 17 // 32
    assert eight.expanded_bytes == need.cache_bytes // 36


def test_a_state_is_counted_once_a_sequence_and_its_layers_keep_no_cache(tmp_path: Path) -> None:
    dims = replace(SMALL3, architecture="Qwen3_5ForConditionalGeneration", layers=4, linear=(0, 1, 2))
    estimate = estimator(read_exl(made(tmp_path / "model", dims, "exl3")))
    assert estimate.shape.cache.layers == 1
    width = 2 * 16 * 128 + 32 * 128
    convolution, state = np.zeros((1, width, 4), np.float16), np.zeros((1, 1, 32, 128, 128), np.float32)
    assert estimate.need(ExlSettings(256, CacheBits(16, 16))).state_bytes == 3 * (convolution.nbytes + state.nbytes)


@pytest.mark.parametrize(
    ("engine", "text", "expected"),
    [
        ("exl3", "16", CacheBits(16, 16)),
        ("exl3", " 6 , 4 ", CacheBits(6, 4)),
        ("exl2", "6", CacheBits(6, 6)),
        ("exl2", "6,4", None),
        ("exl2", "5", None),
        ("exl3", "9", None),
        ("exl3", "16,8", None),
        ("exl3", "", None),
        ("exl3", "q8_0", None),
    ],
)
def test_bits_are_those_that_the_engine_has(engine: Any, text: str, expected: CacheBits | None) -> None:
    if expected is None:
        with pytest.raises(BadInput, match="--cache-bits"):
            parse_bits(text, engine)
    else:
        assert parse_bits(text, engine) == expected


def test_a_config_that_the_tensors_contradict_is_refused(tmp_path: Path) -> None:
    told = config(replace(SMALL3, layers=3), "exl3", 4.0)
    with pytest.raises(BadInput, match="3 layers, the files have 2"):
        estimator(read_exl(write(tmp_path / "model", tensors(SMALL3, "exl3"), told)))


def test_exl2s_scratch_holds_the_output_layer_up_to_a_gibibyte(tmp_path: Path) -> None:
    """545 million values of Qwen2.5-VL-7B's output layer against max_dq_size of 512 Mi (config.py)."""
    folder = ghost(tmp_path / "model", tensors(QWEN25_VL_7B, "exl2"), config(QWEN25_VL_7B, "exl2", 4.0))
    need = estimator(read_exl(folder)).need(ExlSettings(4096, CacheBits(16, 16)))
    assert 1 << 30 < need.compute_bytes < (1 << 30) + (128 << 20)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("exl")
    return [
        estimator(read_exl(made(folder / engine, dims, engine)))
        for dims, engine in ((SMALL2, "exl2"), (SMALL3, "exl3"))
    ]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 1 << 18), st.integers(0, 1 << 16), st.sampled_from([16, 8, 6, 4]))
def test_a_need_grows_with_the_context_and_lies_within_its_band(
    both: list[Any], num_ctx: int, more: int, n: int
) -> None:
    for estimate in both:
        small = estimate.need(ExlSettings(num_ctx, CacheBits(n, n)))
        large = estimate.need(ExlSettings(num_ctx + more, CacheBits(n, n)))
        for part in ("low", "high"):
            assert getattr(small.band, part) <= getattr(large.band, part)
        assert small.exact_bytes < small.band.low < small.total_bytes < small.band.high


@pytest.mark.parametrize("report", REPORTS, ids=lambda r: f"{r.model}, cache {r.cache}")
def test_what_others_reported_of_real_loads_lies_within_the_band(report: Report) -> None:
    need = need_of(report)
    assert within(report, need)
    assert need.total_bytes == pytest.approx(report.reported_mib * 1024**2, rel=0.05)


def test_experts_are_weights_like_others(tmp_path: Path) -> None:
    more = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128}
    dims = replace(SMALL3, architecture="Qwen3VLMoeForConditionalGeneration", more=more)
    table = {n: v for n, v in tensors(dims, "exl3").items() if ".mlp." not in n or ".visual." in n}
    for layer in range(dims.layers):
        for expert in range(4):
            at = f"model.language_model.layers.{layer}.mlp.experts.{expert}"
            table |= exl3_linear(f"{at}.gate_proj", 128, 128, 4) | exl3_linear(f"{at}.up_proj", 128, 128, 4)
            table |= exl3_linear(f"{at}.down_proj", 128, 128, 4)
    folder = write(tmp_path / "model", table, config(dims, "exl3", 4.0))
    estimate = estimator(read_exl(folder))
    assert (estimate.shape.experts, estimate.shape.experts_used, estimate.shape.feed_forward) == (4, 2, 128)
    stored = sum(v.nbytes for n, v in arrays(folder).items() if ".visual." not in n and "embed_tokens" not in n)
    assert estimate.weights.device_bytes == stored
    assert len(quantized_layers(estimate.model)) == dims.layers * (4 + 4 * 3) + 1
