"""What ExLlama would fit on a card: the largest safe context, the widest cache that holds the task, or why not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qwenops.machine.detect import detect
from qwenops.machine.types import Device
from qwenops.memory.exl import RESERVE_BYTES, Estimator, ExlSettings, estimator
from qwenops.memory.exl_cache import PAGE_TOKENS, USUAL_BITS, CacheBits
from qwenops.model.exl import read_exl
from qwenops.model.exl_support import support, why_not_here, why_not_loaded
from qwenops.plan.exl import judge, largest_context, plan_exl, usable
from qwenops.units import GIB, MIB
from tests.support.exl import QWEN3_VL_8B, QWEN25_VL_7B, Dims, config, ghost, tensors

ASKED = ExlSettings(8448, CacheBits(16, 16))


def card(gpu: str) -> Device:
    device = usable(detect(gpu).devices)
    assert device is not None
    return device


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Estimator]:
    folder = tmp_path_factory.mktemp("exl")
    rows: list[tuple[str, Dims, str, int]] = [
        ("3-4", QWEN3_VL_8B, "exl3", 4),
        ("3-6", QWEN3_VL_8B, "exl3", 6),
        ("2-4", QWEN25_VL_7B, "exl2", 4),
        ("wrong", QWEN3_VL_8B, "exl2", 4),
    ]
    return {
        name: estimator(read_exl(ghost(folder / name, tensors(dims, engine, bits), config(dims, engine, bits))))
        for name, dims, engine, bits in rows
    }


@pytest.mark.parametrize("bits", USUAL_BITS)
@pytest.mark.parametrize("name", ["3-4", "2-4"])
def test_the_largest_context_is_the_largest(shelf: dict[str, Estimator], name: str, bits: CacheBits) -> None:
    device, asked = card("RTX 3060 12GB"), replace(ASKED, bits=bits)
    largest = largest_context(shelf[name], asked, device)
    at = shelf[name].need(replace(asked, num_ctx=largest))
    assert largest % PAGE_TOKENS == 0
    assert judge(at, device) == "yes"
    if largest < shelf[name].model.trained_context:
        assert judge(shelf[name].need(replace(asked, num_ctx=largest + PAGE_TOKENS)), device) != "yes"


def test_the_verdict_uses_the_band_and_the_loaders_reserve(shelf: dict[str, Estimator]) -> None:
    need = shelf["3-4"].need(ASKED)
    device = card("RTX 3060 12GB")
    for free, expected in [
        (need.band.high + RESERVE_BYTES, "yes"),
        (need.band.high + RESERVE_BYTES - 1, "too close"),
        (need.band.low + RESERVE_BYTES, "too close"),
        (need.band.low + RESERVE_BYTES - 1, "no"),
    ]:
        assert judge(need, replace(device, free_bytes=free), 0) == expected


def test_the_most_bits_win_and_the_cache_stays_as_wide_as_it_can(shelf: dict[str, Estimator]) -> None:
    models = [shelf["3-4"], shelf["3-6"]]
    plan = plan_exl(models, card("RTX 3060 12GB"), floor=8448, goal=32768, settings=ASKED)
    assert plan.chosen is not None
    assert plan.chosen.estimate is shelf["3-6"]
    assert plan.chosen.bits == CacheBits(16, 16)
    narrow = plan_exl(models, card("RTX 3060 12GB"), floor=8448, goal=32768, pinned=49152, settings=ASKED)
    assert narrow.chosen is not None
    assert (narrow.chosen.estimate, str(narrow.chosen.bits)) == (shelf["3-6"], "4")


def test_a_small_card_is_refused_or_left_open_never_promised(shelf: dict[str, Estimator]) -> None:
    for gpu in ("cuda:4GiB", "cuda:7GiB"):
        plan = plan_exl([shelf["3-4"]], card(gpu), floor=8448, goal=32768, settings=ASKED)
        assert plan.chosen is None
        assert plan.fits == ("no" if gpu == "cuda:4GiB" else "too close")


def test_what_the_engine_does_not_load_is_refused_with_the_one_that_does(shelf: dict[str, Estimator]) -> None:
    why = why_not_loaded(shelf["wrong"].model)
    assert why is not None
    assert "exllamav2 0.3.2 does not know Qwen3VLForConditionalGeneration; exllamav3 1.4.1 does" in why
    assert why_not_loaded(shelf["3-4"].model) is None


@pytest.mark.parametrize(
    ("gpu", "exl2", "exl3"),
    [
        ("RTX 2080 Ti", None, "this card has 7.5"),
        ("RTX 3060 12GB", None, None),
        ("H100 80GB", None, None),
        ("cuda:12GiB", None, None),
        ("rocm:16GiB", None, "AMD"),
        ("vulkan:8GiB", "not on vulkan", "not on vulkan"),
    ],
)
def test_a_card_runs_an_engine_or_says_why_not(gpu: str, exl2: str | None, exl3: str | None) -> None:
    (device,) = detect(gpu).devices
    for said, expected in ((why_not_here(device, "exl2"), exl2), (why_not_here(device, "exl3"), exl3)):
        assert (said is None) == (expected is None)
        assert (expected or "") in (said or "")


@pytest.mark.parametrize(
    ("architecture", "exl2", "exl3"),
    [
        ("Qwen2VLForConditionalGeneration", "vision", "no"),
        ("Qwen2_5_VLForConditionalGeneration", "vision", "vision"),
        ("Qwen3VLForConditionalGeneration", "no", "vision"),
        ("Qwen3VLMoeForConditionalGeneration", "no", "vision"),
        ("Qwen3_5ForConditionalGeneration", "no", "vision"),
        ("Qwen4ForConditionalGeneration", "unknown", "unknown"),
    ],
)
def test_an_architecture_is_loaded_as_its_source_says(architecture: str, exl2: str, exl3: str) -> None:
    assert (support(architecture, "exl2"), support(architecture, "exl3")) == (exl2, exl3)


def test_a_quantized_cache_costs_the_expanded_layer_too(shelf: dict[str, Estimator]) -> None:
    wide, narrow = (shelf["3-4"].need(replace(ASKED, num_ctx=262144, bits=b)) for b in (USUAL_BITS[0], USUAL_BITS[3]))
    assert wide.cache_bytes == 36 * GIB
    assert narrow.cache_bytes + narrow.expanded_bytes == (36 * 9 // 32 * GIB) + (36 * 9 % 32) * GIB // 32 + GIB
    assert narrow.expanded_bytes > 1000 * MIB
