"""A slowdown that was planted into noise is found, and none is claimed where none was; the script does it at length."""

from __future__ import annotations

import json
import random

import pytest

from qwenops.bench.statistics import compare_apart, compare_ratios
from scripts.simulate_slowdown import NOISE, from_samples, made_up

ROUNDS, RUNS = 60, 20
RECORDED = json.loads(NOISE.read_text(encoding="utf-8"))["samples"]


@pytest.mark.parametrize("noise", ["recorded", "made up"])
@pytest.mark.parametrize(("planted", "verdict"), [(0.0, "no difference shown"), (0.03, "slower")])
def test_side_by_side_the_verdict_is_right(noise: str, planted: float, verdict: str) -> None:
    right = 0
    for run in range(RUNS):
        draw = random.Random(f"{noise}/{planted}/{run}")
        stream = made_up(draw) if noise == "made up" else from_samples(RECORDED, draw)
        ratios = [next(stream) * (1 - planted) / next(stream) for _ in range(ROUNDS)]
        right += compare_ratios(ratios, comparisons=2).verdict == verdict
    assert right >= 0.95 * RUNS


@pytest.mark.parametrize(("planted", "verdict"), [(0.0, "no difference shown"), (0.03, "slower")])
def test_beside_an_earlier_run_the_verdict_is_right(planted: float, verdict: str) -> None:
    right = 0
    for run in range(RUNS):
        draw = random.Random(f"{planted}/{run}")
        stream = from_samples(RECORDED, draw)
        before, now = [next(stream) for _ in range(ROUNDS)], [next(stream) * (1 - planted) for _ in range(ROUNDS)]
        right += compare_apart(now, before, tolerance=0.01, comparisons=2).verdict == verdict
    assert right >= 0.95 * RUNS
