"""A learned band holds the truth whatever the errors are distributed like, and is earned before it gets narrow."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.history import LoadRow
from qwenops.memory.learned_band import (
    ENOUGH_LOADS,
    FLOOR_ABOVE_BYTES,
    FLOOR_BELOW_BYTES,
    PARTS,
    LoadError,
    errors_in,
    experience_of,
    learned_band,
)
from qwenops.memory.types import Band, DeviceNeed, HostNeed, Layers, LoadSettings, Need, Rung
from qwenops.units import GIB, MIB

BUILD = "ollama 0.32.14 llama-server b10434"
WEIGHTS, KV, COMPUTE = 6 * GIB, 2 * GIB, 1 * GIB


def answer(rung: Rung = "closed form", **parts: int) -> Need:
    """A need of 9 GiB on one card, with the stated band of the closed form: 3 % below, 1 % above."""
    device = DeviceNeed("CUDA0", "cuda", 12 * GIB, weights_bytes=WEIGHTS, kv_bytes=KV, compute_bytes=COMPUTE)
    device = replace(device, **parts)
    total = device.total_bytes
    return Need(
        rung=rung,
        settings=LoadSettings(),
        devices=(device,),
        host=HostNeed(),
        layers=Layers(37, 37),
        band=Band(total - total * 3 // 100, total + total // 100),
        sources=dict.fromkeys(PARTS, rung),
    )


def error(number: int, compute: int = 0, *, predicted: int = COMPUTE, rung: str = "closed form") -> LoadError:
    """A load whose compute buffer was off by so many bytes, everything else as predicted."""
    planned = {"weights": WEIGHTS, "kv": KV, "state": 0, "compute": predicted, "projector": 0}
    return LoadError(
        build=BUILD,
        architecture="qwen3",
        kinds=("cuda",),
        load=(f"model {number}", "settings"),
        rung=rung,
        sources=dict.fromkeys(PARTS, rung),
        predicted=planned,
        measured={**planned, "compute": predicted + compute},
    )


def band(errors: Sequence[LoadError], need: Need | None = None) -> Band:
    return learned_band(need or answer(), "qwen3", experience_of(errors))


def contains(outer: Band, inner: Band) -> bool:
    return outer.low <= inner.low and inner.high <= outer.high


STATED = answer().band
TOTAL = answer().total_device_bytes
SMALL = st.integers(-20 * MIB, 20 * MIB)


def test_the_least_count_is_that_of_the_tolerance_interval_between_extremes() -> None:
    def confidence(n: int, content: float = 0.98) -> float:
        return 1 - n * content ** (n - 1) + (n - 1) * content**n

    assert confidence(ENOUGH_LOADS) >= 0.95 > confidence(ENOUGH_LOADS - 1)


DISTRIBUTIONS: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda r: r.gauss(0, 0.01),
    "normal, always above": lambda r: 0.02 + r.gauss(0, 0.004),
    "uniform": lambda r: r.uniform(-0.02, 0.03),
    "skewed": lambda r: r.expovariate(100),
    "heavy tails": lambda r: 0.002 * r.gauss(0, 1) / max(1e-3, abs(r.gauss(0, 1))),
    "seldom and large": lambda r: 0.3 if r.random() < 0.02 else r.gauss(0, 0.001),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_truth_lies_inside_in_98_of_100_histories(name: str) -> None:
    draw, dice = DISTRIBUTIONS[name], random.Random(name)
    held, histories = 0, 300
    need = answer()
    for _ in range(histories):
        errors = []
        for number in range(ENOUGH_LOADS):
            size = dice.randrange(64 * MIB, 2 * GIB)
            errors.append(error(number, round(draw(dice) * size), predicted=size))
        truth = TOTAL + round(draw(dice) * COMPUTE)
        edges = band(errors, need)
        held += edges.low <= truth <= edges.high
    assert held >= 0.98 * histories


@pytest.mark.parametrize("count", [ENOUGH_LOADS, ENOUGH_LOADS + 50])
def test_enough_exact_loads_leave_what_rounding_can_do(count: int) -> None:
    assert band([error(n) for n in range(count)]) == Band(TOTAL - FLOOR_BELOW_BYTES, TOTAL + FLOOR_ABOVE_BYTES)


@given(st.lists(SMALL, max_size=40))
def test_few_loads_never_make_a_band_narrower_than_stated(errors: list[int]) -> None:
    assert contains(band([error(n, off) for n, off in enumerate(errors)]), STATED)


@given(st.lists(SMALL, min_size=1, max_size=12), st.integers(1, 100))
def test_the_same_load_again_and_again_counts_once(errors: list[int], times: int) -> None:
    again = [error(n, off) for n, off in enumerate(errors)] * times
    assert contains(band(again), STATED)


@given(st.lists(SMALL, min_size=1, max_size=30), st.booleans(), st.fractions(1, 10))
def test_larger_errors_never_make_a_narrower_band(errors: list[int], many: bool, factor: Any) -> None:
    rest = [error(1000 + n) for n in range(ENOUGH_LOADS if many else 0)]
    here = band([*rest, *(error(n, off) for n, off in enumerate(errors))])
    worse = band([*rest, *(error(n, int(off * factor)) for n, off in enumerate(errors))])
    assert contains(worse, here)


@given(st.lists(SMALL, min_size=1, max_size=10), st.integers(-GIB, GIB))
def test_one_outlier_widens_at_once_and_as_far_as_it_was(errors: list[int], outlier: int) -> None:
    before = [error(n, off) for n, off in enumerate(errors)]
    for count in (0, ENOUGH_LOADS):
        rest = [error(1000 + n) for n in range(count)]
        edges = band([*rest, *before, error(999, outlier)])
        assert contains(edges, band([*rest, *before]))
        assert edges.low <= TOTAL + outlier <= edges.high


PART_ERRORS = st.fixed_dictionaries(
    {part: st.tuples(st.integers(MIB, 4 * GIB), st.integers(-300 * MIB, 300 * MIB)) for part in PARTS[:4]}
)


@given(st.lists(PART_ERRORS, min_size=1, max_size=25), st.tuples(*[st.integers(0, 8 * GIB)] * 4), st.booleans())
def test_what_is_left_out_of_an_experience_would_have_changed_no_band(
    drawn: list[dict[str, tuple[int, int]]], sizes: tuple[int, ...], asked: bool
) -> None:
    rung: Rung = "runtime" if asked else "closed form"
    errors = []
    for number, parts in enumerate(drawn):
        predicted = {**{part: size for part, (size, _) in parts.items()}, "projector": 0}
        measured = {part: max(0, predicted[part] + parts.get(part, (0, 0))[1]) for part in PARTS}
        errors.append(replace(error(number, rung=rung), predicted=predicted, measured=measured))
    need = answer(rung, **{f"{part}_bytes": size for part, size in zip(PARTS, sizes, strict=False)})
    alone = [band([one], need) for one in errors]
    together = band(errors, need)
    assert together == Band(min(b.low for b in alone), max(b.high for b in alone))
    assert learned_band(need, "qwen3", experience_of(errors[::-1])) == together


def test_an_error_grows_with_its_part_and_rounding_does_not() -> None:
    large = answer(compute_bytes=4 * GIB)
    one_percent = [error(0, 10 * MIB, predicted=GIB)]
    assert band(one_percent, large).high == max(large.band.high, large.total_device_bytes + 40 * MIB)
    tiny = [error(n, 20 * 1024, predicted=MIB) for n in range(ENOUGH_LOADS)]
    assert band(tiny, large).high < large.total_device_bytes + 2 * MIB


def test_what_no_load_shows_keeps_its_share_of_the_stated_width() -> None:
    seeing = answer(encoder_bytes=3 * GIB)
    edges = band([error(n) for n in range(ENOUGH_LOADS)], seeing)
    assert edges.high - seeing.total_device_bytes == pytest.approx(3 * GIB // 100 + FLOOR_ABOVE_BYTES, abs=2)
    assert seeing.total_device_bytes - edges.low == pytest.approx(9 * GIB // 100 + FLOOR_BELOW_BYTES, abs=2)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"architecture": "gemma3"}, id="another architecture"),
        pytest.param({"kinds": ("vulkan",)}, id="another kind of device"),
        pytest.param({"sources": dict.fromkeys(PARTS, "runtime")}, id="another rung"),
        pytest.param({"predicted": {**error(0).predicted, "kv": 0}}, id="a load without that part"),
    ],
)
def test_loads_of_another_kind_change_nothing(change: dict[str, Any]) -> None:
    assert band([replace(error(n, 300 * MIB), **change) for n in range(ENOUGH_LOADS)]) == STATED


def test_the_runtimes_own_answer_is_widened_and_never_narrowed() -> None:
    asked = answer("runtime")
    exact = [error(n, rung="runtime") for n in range(2 * ENOUGH_LOADS)]
    assert band(exact, asked) == asked.band
    assert band([*exact, error(9999, GIB, rung="runtime")], asked).high == TOTAL + GIB


# --- from rows of the history


def row(need: Need, seen: dict[str, Any], **changes: Any) -> LoadRow:
    entry = {"file": "model.gguf", "architecture": "qwen3"}
    made = LoadRow(
        id=1,
        created=datetime.now(timezone.utc),
        model_key="m",
        settings_key="s",
        runtime_build=BUILD,
        device="a card",
        predicted=need.as_data(entry),
        measured=seen,
        ok=True,
    )
    return replace(made, **changes)


def measured(compute: int = COMPUTE, **changes: Any) -> dict[str, Any]:
    device = {"weights_bytes": WEIGHTS, "kv_bytes": KV, "state_bytes": 0, "compute_bytes": compute}
    device |= {"name": "CUDA0", "projector_bytes": 0, "encoder_bytes": 0, "overhead_bytes": 0}
    return {"devices": [device], "layers": {"on_device": 37, "total": 37}, **changes}


def test_a_row_says_how_far_each_rung_was_off() -> None:
    asked, formula = answer("runtime"), answer(compute_bytes=COMPUTE - MIB)
    predicted = {**asked.as_data({"architecture": "qwen3"}), "also": [formula.as_data({"architecture": "qwen3"})]}
    found = list(errors_in(replace(row(asked, measured()), predicted=predicted)))
    assert [(e.rung, e.off_bytes("compute"), e.off_bytes("weights")) for e in found] == [
        ("runtime", 0, 0),
        ("closed form", MIB, 0),
    ]


def test_a_load_over_its_plan_teaches_although_it_failed_the_check() -> None:
    (found,) = errors_in(row(answer(), measured(COMPUTE + GIB), ok=False))
    assert found.off_bytes("compute") == GIB


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(row(answer(), measured(layers={"on_device": 20, "total": 37})), id="layers were spilled"),
        pytest.param(row(answer(projector_bytes=MIB), measured()), id="the projector went to the CPU"),
        pytest.param(row(answer(draft_bytes=MIB), measured()), id="a draft's memory is not told apart"),
        pytest.param(row(replace(answer(), devices=()), measured()), id="no device"),
        pytest.param(replace(row(answer(), measured()), measured=None), id="it died"),
        pytest.param(row(answer(), {"devices": []}), id="a row of an older form"),
        pytest.param(replace(row(answer(), measured()), predicted={}), id="nothing was predicted"),
    ],
)
def test_a_load_that_went_another_way_teaches_nothing(odd: LoadRow) -> None:
    assert list(errors_in(odd)) == []
