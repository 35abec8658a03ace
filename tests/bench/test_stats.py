"""The statistics agree with Python's own, and noise is called noise."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.bench.speed import speed_tests
from qwenops.bench.stats import is_noisy, summary
from qwenops.bench.types import SpeedTest
from qwenops.errors import BadInput

speeds = st.lists(st.floats(0.1, 1e5), min_size=1, max_size=20)


@given(speeds)
def test_a_summary_lies_within_its_samples_and_keeps_them(samples: list[float]) -> None:
    told = summary(samples)
    assert told["samples"] == samples
    assert told["min"] <= told["median"] <= told["max"]
    assert told["min"] - 1e-9 <= told["mean"] <= told["max"] + 1e-9
    assert told["sd"] == pytest.approx(statistics.stdev(samples) if len(samples) > 1 else 0)


@pytest.mark.parametrize(
    ("samples", "noisy"), [([100.0, 101.0, 99.0], False), ([100.0, 50.0, 150.0], True), ([100.0], False)]
)
def test_a_wide_spread_is_noise(samples: list[float], noisy: bool) -> None:
    assert is_noisy(samples) is noisy


@pytest.mark.parametrize(
    ("prompts", "generates", "depths", "names"),
    [
        ([512], [128], [0], ["pp512", "tg128"]),
        ([512, 0], [0], [0, 4096], ["pp512", "pp512 @ d4096"]),
        ([0], [16], [0], ["tg16"]),
    ],
)
def test_tests_are_named_as_llama_bench_names_them(
    prompts: list[int], generates: list[int], depths: list[int], names: list[str]
) -> None:
    assert [t.name for t in speed_tests(prompts, generates, depths)] == names


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(BadInput, match="nothing to measure"):
        speed_tests([0], [0], [0])


def test_a_test_with_a_depth_says_so_in_its_name() -> None:
    assert SpeedTest(prompt=0, generate=128, depth=1024).name == "tg128 @ d1024"
