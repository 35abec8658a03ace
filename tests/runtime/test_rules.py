"""What Ollama decides before a load: told in tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from qwenops.errors import BadInput
from qwenops.machine.types import Device
from qwenops.runtime import rules
from qwenops.runtime.facts import ModelFacts, RunOptions, model_facts
from qwenops.runtime.fit_target import fit_target_bytes
from qwenops.units import GIB, MIB
from tests.runtime.machines import MODEL, PLAIN, VISION, gpu


@pytest.mark.parametrize(
    ("totals", "environment", "num_ctx"),
    [
        ([], {}, 4096),
        ([12], {}, 4096),
        ([22.9], {}, 4096),
        ([23], {}, 32768),
        ([12, 12], {}, 32768),
        ([24], {"OLLAMA_GPU_OVERHEAD": str(2 * GIB)}, 4096),
        ([47], {}, 262144),
        ([80], {"OLLAMA_CONTEXT_LENGTH": "10000"}, 10000),
        ([80], {"OLLAMA_CONTEXT_LENGTH": "x"}, 262144),
    ],
)
def test_the_default_context_follows_the_vram_of_all_devices(
    totals: list[float], environment: dict[str, str], num_ctx: int
) -> None:
    assert rules.default_num_ctx([gpu(t) for t in totals], environment) == num_ctx


@pytest.mark.parametrize(
    ("model", "asked", "num_ctx"),
    [
        (PLAIN, None, 4096),
        (PLAIN, 1, 4),
        (PLAIN, 1000, 1000),
        (PLAIN, 999999, 262144),
        (replace(PLAIN, train_ctx=0), 999999, 999999),
        (VISION, 1000, 2048),
        (replace(VISION, train_ctx=1024), 1000, 1024),
    ],
)
def test_context_is_raised_for_vision_and_cut_at_the_trained_one(
    model: ModelFacts, asked: int | None, num_ctx: int
) -> None:
    assert rules.num_ctx_in_force(model, asked, [gpu(8)], {}) == num_ctx


@pytest.mark.parametrize(
    ("family", "pooling", "asked", "parallel"),
    [
        ("llama", False, "4", 4),
        ("llama", False, "", 1),
        ("llama", False, "0", 1),
        ("qwen25vl", False, "4", 4),
        ("qwen2vl", False, "2", 2),
        ("qwen3vl", False, "4", 1),
        ("qwen35moe", False, "4", 1),
        ("qwen3next", False, "4", 1),
        ("llama", True, "4", 1),
    ],
)
def test_some_families_and_embedding_models_run_one_sequence(
    family: str, pooling: bool, asked: str, parallel: int
) -> None:
    model = replace(MODEL, family=family, pooling=pooling)
    assert rules.parallel_in_force(model, {"OLLAMA_NUM_PARALLEL": asked}) == parallel


@pytest.mark.parametrize(
    ("kv_type", "attention", "problem"),
    [
        ("", "off", None),
        ("f16", "off", None),
        ("bf16", "off", None),
        ("q8_0", "auto", None),
        ("q8_0", "on", None),
        ("q8_0", "off", "needs flash attention"),
        ("q3_k", "on", "no KV cache type"),
    ],
)
def test_a_kv_type_with_which_the_server_cannot_start_is_known(
    kv_type: str, attention: Any, problem: str | None
) -> None:
    found = rules.kv_cache_problem(kv_type, attention)
    assert found is None if problem is None else problem in str(found)


def test_the_kv_type_is_passed_in_lower_case() -> None:
    assert rules.kv_cache_type({"OLLAMA_KV_CACHE_TYPE": " Q8_0 "}) == "q8_0"


@pytest.mark.parametrize(
    ("devices", "setting", "mode"),
    [
        ([], None, "auto"),
        ([gpu()], None, "auto"),
        ([gpu(compute_capability=(5, 2))], None, "off"),
        ([gpu(compute_capability=(7, 2))], None, "off"),
        ([gpu(compute_capability=(8, 6)), gpu(compute_capability=(5, 2))], None, "off"),
        ([gpu(kind="vulkan")], None, "auto"),
        ([gpu(compute_capability=(5, 2))], "1", "on"),
        ([gpu()], "0", "off"),
        ([gpu()], "nonsense", "on"),
    ],
)
def test_flash_attention_is_the_setting_or_what_all_devices_can(
    devices: list[Device], setting: str | None, mode: str
) -> None:
    environment = {} if setting is None else {"OLLAMA_FLASH_ATTENTION": setting}
    assert rules.flash_attention(devices, environment) == mode


@pytest.mark.parametrize(
    ("num_gpu", "free", "why"),
    [
        (-1, 8, None),
        (0, 8, "cpu-only"),
        (36, 8, "partial-text-offload"),
        (37, 8, None),
        (99, 8, None),
        (-1, 2.1, None),
        (-1, 1.9, "limited-vram"),
        (37, 1.9, "limited-vram"),
    ],
)
def test_the_projector_goes_to_the_cpu_for_a_reason(num_gpu: int, free: float, why: str | None) -> None:
    assert rules.projector_goes_to_cpu(VISION, num_gpu, [gpu(8, free)]) == why


def test_one_small_device_among_several_sends_the_projector_to_the_cpu() -> None:
    assert rules.projector_goes_to_cpu(VISION, -1, [gpu(24), gpu(8, 1)]) == "limited-vram"


@pytest.mark.parametrize(
    ("projector", "environment", "devices", "mib"),
    [
        (0, {}, 1, (1024,)),
        (0, {}, 2, (1024, 1024)),
        (1 * GIB, {}, 1, (2048,)),
        (1, {}, 1, (1025,)),
        (1 * GIB, {"LLAMA_ARG_FIT_TARGET": "256"}, 2, (256, 256)),
        (0, {"LLAMA_ARG_FIT_TARGET": "256,512"}, 3, (256, 512, 1024)),
        (0, {"LLAMA_ARG_FIT_TARGET": "256/512"}, 2, (256, 512)),
        (0, {"LLAMA_ARG_FIT": "off", "LLAMA_ARG_FIT_TARGET": "256"}, 1, (0,)),
    ],
)
def test_the_fit_target_is_the_users_or_the_projectors_or_one_gib(
    projector: int, environment: dict[str, str], devices: int, mib: tuple[int, ...]
) -> None:
    assert fit_target_bytes(projector, environment, devices=devices) == tuple(m * MIB for m in mib)


@pytest.mark.parametrize("text", ["", "none", "256,", "-1"])
def test_a_fit_target_with_which_the_server_would_not_start_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput, match="LLAMA_ARG_FIT_TARGET"):
        fit_target_bytes(0, {"LLAMA_ARG_FIT_TARGET": text})


def test_the_prediction_is_the_file_and_dense_f16_kv() -> None:
    assert rules.predicted_vram_bytes(MODEL, 8192) == 5 * GIB + 2 * 36 * 8 * 128 * 8192 * 2


@pytest.mark.parametrize(
    ("loaded", "options", "devices", "admitted", "why"),
    [
        (0, RunOptions(num_ctx=4096), [gpu(2)], True, "no other model"),
        (1, RunOptions(num_ctx=4096), [gpu(8)], True, "within 80 %"),
        (1, RunOptions(num_ctx=4096), [gpu(8, 6)], False, "above 80 %"),
        (1, RunOptions(num_ctx=4096, num_gpu=10), [gpu(8, 6)], True, "part of the layers"),
        (1, RunOptions(num_ctx=4096, num_gpu=0), [gpu(8, 6)], True, "CPU"),
        (3, RunOptions(num_ctx=4096), [gpu(80)], False, "3 is the most"),
        (5, RunOptions(num_ctx=4096), [gpu(80), gpu(80)], True, "within 80 %"),
    ],
)
def test_a_second_model_is_let_in_by_the_prediction(
    loaded: int, options: RunOptions, devices: list[Device], admitted: bool, why: str
) -> None:
    found = rules.admission(PLAIN, options, {}, devices, loaded_models=loaded)
    assert (found.admitted, why in found.why) == (admitted, True), found


def test_facts_come_from_the_header_and_the_config() -> None:
    metadata = {
        "general.architecture": "qwen35",
        "qwen35.block_count": 64,
        "qwen35.context_length": 262144,
        "qwen35.attention.head_count": [24, 0, 24],
        "qwen35.attention.head_count_kv": [4, 0, 4],
        "qwen35.embedding_length": 5120,
        "qwen35.nextn_predict_layers": 1,
    }
    facts = model_facts("/m", metadata, file_bytes=1, config={"model_family": "qwen35", "renderer": "qwen3-coder"})
    assert (facts.head_count_max, facts.head_count_kv_min, facts.layers) == (24, 0, 65)
    assert (facts.draft_type, facts.renders_chat, facts.vision) == ("draft-mtp", True, False)
    inline = model_facts("/m", metadata, file_bytes=1, inline_vision_bytes=7)
    assert (inline.projector_path, inline.projector_bytes, inline.vision) == ("/m", 7, True)
