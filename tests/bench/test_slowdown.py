"""A slowdown that was planted into noise is found, and none is claimed where none was; the script does it at length."""

from __future__ import annotations

import json
import random

import pytest

from qwenops.bench.statistics import compare_apart, compare_ratios
from scripts.simulate_slowdown import NOISE, from_samples, made_up

ROUNDS, RUNS = 60, 20
RECORDED = json.loads(NOISE.read_text(encoding="utf-8"))["samples"]


@pytest.mark.parametrize(
    ("noise", "planted", "verdict"),
    [
        ("recorded", 0.0, "no difference shown"),
        ("recorded", 0.2, "slower"),
        ("made up", 0.0, "no difference shown"),
        ("made up", 0.03, "slower"),
    ],
)
def test_side_by_side_the_verdict_is_right(noise: str, planted: float, verdict: str) -> None:
    right = 0
    for run in range(RUNS):
        draw = random.Random(f"{noise}/{planted}/{run}")
        stream = made_up(draw) if noise == "made up" else from_samples(RECORDED, draw)
        ratios = [next(stream) * (1 - planted) / next(stream) for _ in range(ROUNDS)]
        right += compare_ratios(ratios, comparisons=2).verdict == verdict
    assert right >= 0.95 * RUNS


@pytest.mark.parametrize(("noise", "planted"), [("recorded", 0.0), ("made up", 0.1)])
def test_beside_an_earlier_run_a_drift_is_no_slowdown_and_a_slowdown_is_one(noise: str, planted: float) -> None:
    right = 0
    for run in range(RUNS):
        draw = random.Random(f"{noise}/{planted}/{run}")
        stream = made_up(draw) if noise == "made up" else from_samples(RECORDED, draw)
        before, now = [next(stream) for _ in range(ROUNDS)], [next(stream) * (1 - planted) for _ in range(ROUNDS)]
        verdict = compare_apart(now, before, tolerance=0.01, comparisons=2).verdict
        right += verdict == ("slower" if planted else "no difference shown")
    assert right >= 0.9 * RUNS
