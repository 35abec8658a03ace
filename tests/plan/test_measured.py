"""What was measured orders the variants only where an interval shows it; everything else is by bits, as without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenops import history
from qwenops.history import Outcome
from qwenops.machine.detect import detect
from qwenops.machine.types import Host, Machine
from qwenops.model.read import model_key
from qwenops.model.types import Model
from qwenops.plan.beside import MARGINS, Beside, in_order
from qwenops.plan.choose import plan
from qwenops.plan.intervals import Interval
from qwenops.plan.measured import Here, Measured, gather
from qwenops.plan.profile import profiles
from qwenops.plan.types import Plan
from qwenops.units import GIB
from tests.support.bench_rows import answers, quality, reading, speed
from tests.support.shapes import TEXT, VISION, text_model, vision_projector

SOME = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
HOST = Host(64 * GIB, 60 * GIB, 8, 16, "linux", "x86_64")
SEEING = vision_projector(VISION["qwen3-vl-2b"])
Q8, Q6, Q4 = (text_model(TEXT["qwen3-vl-2b"], quant, SEEING) for quant in ("Q8_0", "Q6_K", "Q4_K_M"))
CARD = replace(detect("RTX 3060 12GB"), host=HOST, hypothetical=False)
CARD = replace(CARD, devices=tuple(replace(d, driver="580.126", uuid="GPU-1") for d in CARD.devices))
OTHER_HOST = replace(CARD, host=replace(HOST, physical_cores=4))
OTHER_DRIVER = replace(CARD, devices=tuple(replace(d, driver="550.54") for d in CARD.devices))
OTHER_CARD = replace(CARD, devices=tuple(replace(d, uuid="GPU-2", description="RTX 4090") for d in CARD.devices))
NO_CARD = replace(CARD, devices=())
BUSY = ({"what": "load", "value": 3.1, "why": "another program"},)

CLEAN = [0.01 + 0.001 * (n % 5) for n in range(60)]
BLURRED = [cer + 0.03 + 0.01 * (n % 2) for n, cer in enumerate(CLEAN)]
MIXED = [cer + (0.004 if n % 2 else -0.004) for n, cer in enumerate(CLEAN)]
WILD = [cer + (0.5 if n % 9 == 0 else 0.0) for n, cer in enumerate(CLEAN)]


def made(
    rows: Iterable[Outcome], task: str = "ocr", here: Machine = CARD, models: tuple[Model, ...] = (Q8, Q6, Q4)
) -> Plan:
    with history.open() as kept:
        kept.record_results(rows)
        engines = {"llama-cpp-python": "0.3.36"}
        measured = gather(kept, models, Here(here.devices, here.host, engines, described=here.hypothetical))
    return plan(models, task, here, None, measured=measured)


def order(answer: Plan) -> list[str]:
    assert answer.chosen
    return [answer.chosen.choice.model.quant, *(other.judged.choice.model.quant for other in answer.runners_up)]


BITS = ["Q8_0", "Q6_K", "Q4_K_M"]
Q4_FIRST = ["Q4_K_M", "Q8_0", "Q6_K"]


def fast(**more: Any) -> list[Outcome]:
    """Q4_K_M writes twice as fast as Q8_0."""
    return [*speed(Q8, CARD, tg=40, pp=900, **more), *speed(Q4, CARD, tg=80, pp=950, **more)]


CASES: dict[str, tuple[Callable[[], list[Outcome]], str, list[str]]] = {
    "nothing measured": (list, "ocr", BITS),
    "faster, and reading not measured": (fast, "ocr", BITS),
    "reads the same and is twice as fast": (lambda: [*fast(), reading(Q8, CLEAN), reading(Q4, CLEAN)], "ocr", Q4_FIRST),
    "reads the same, and its speed was not measured": (lambda: [reading(Q8, CLEAN), reading(Q4, CLEAN)], "ocr", BITS),
    "reads the same by pairs that differ both ways": (
        lambda: [*fast(), reading(Q8, CLEAN), reading(Q4, MIXED)],
        "ocr",
        Q4_FIRST,
    ),
    "reads worse by little, and that is shown": (
        lambda: [*fast(), reading(Q8, CLEAN), reading(Q4, [cer + 0.003 for cer in CLEAN])],
        "ocr",
        BITS,
    ),
    "reads worse": (lambda: [*fast(), reading(Q8, CLEAN), reading(Q4, BLURRED)], "ocr", BITS),
    "may read much worse, too few pages to say": (
        lambda: [*fast(), reading(Q8, CLEAN), reading(Q4, WILD)],
        "ocr",
        BITS,
    ),
    "ten pages say nothing": (lambda: [*fast(), reading(Q8, CLEAN[:10]), reading(Q4, CLEAN[:10])], "ocr", BITS),
    "reads better, however slow": (
        lambda: [
            reading(Q8, BLURRED),
            reading(Q4, CLEAN),
            *speed(Q8, CARD, tg=80),
            *speed(Q4, CARD, tg=40),
        ],
        "ocr",
        Q4_FIRST,
    ),
    "three in a hundred faster is not worth bits": (
        lambda: [*speed(Q8, CARD, tg=40), *speed(Q4, CARD, tg=41.2), reading(Q8, CLEAN), reading(Q4, CLEAN)],
        "ocr",
        BITS,
    ),
    "speeds that overlap": (
        lambda: [
            *speed(Q8, CARD, tg=40, noise=0.5),
            *speed(Q4, CARD, tg=46, noise=0.5),
            reading(Q8, CLEAN),
            reading(Q4, CLEAN),
        ],
        "ocr",
        BITS,
    ),
    "five rounds are too few to claim a speed": (
        lambda: [*fast(n=5), reading(Q8, CLEAN), reading(Q4, CLEAN)],
        "ocr",
        BITS,
    ),
    "writes faster and reads prompts so slowly that the task is slower": (
        lambda: [
            *speed(Q8, CARD, tg=40, pp=900),
            *speed(Q4, CARD, tg=80, pp=15),
            reading(Q8, CLEAN),
            reading(Q4, CLEAN),
        ],
        "ocr",
        BITS,
    ),
    "of different pages no pair is made": (
        lambda: [
            *fast(),
            reading(Q8, CLEAN),
            replace(
                reading(Q4, CLEAN),
                samples=tuple({**s, "page": f"x{n}"} for n, s in enumerate(reading(Q4, CLEAN).samples)),
            ),
        ],
        "ocr",
        BITS,
    ),
    "read with other image tokens": (
        lambda: [*fast(), reading(Q8, CLEAN), reading(Q4, CLEAN, image_tokens=256)],
        "ocr",
        BITS,
    ),
    "reading decides before quality where it was measured": (
        lambda: [*fast(), *quality(Q8, 0.001), *quality(Q4, 0.05), reading(Q8, CLEAN), reading(Q4, CLEAN)],
        "ocr",
        Q4_FIRST,
    ),
    "a divergence that one notices": (lambda: [*fast(), *quality(Q8, 0.001), *quality(Q4, 0.02)], "chat", BITS),
    "a divergence below what one notices": (
        lambda: [*fast(), *quality(Q8, 0.0005), *quality(Q4, 0.001)],
        "chat",
        Q4_FIRST,
    ),
    "the reference itself has no divergence": (
        lambda: [*fast(), *quality(Q8, 0.0, reference="own"), *quality(Q4, 0.001)],
        "chat",
        Q4_FIRST,
    ),
    "against other references nothing is compared": (
        lambda: [*fast(), *quality(Q8, 0.001), *quality(Q4, 0.001, reference="another")],
        "chat",
        BITS,
    ),
    "answers of another task do not speak for this one": (
        lambda: [*fast(), answers(Q8, [True] * 60, "vision count"), answers(Q4, [True] * 60, "vision count")],
        "grounding",
        BITS,
    ),
    "answers as often right": (
        lambda: [*fast(), answers(Q8, [True] * 60), answers(Q4, [True] * 60)],
        "analysis",
        Q4_FIRST,
    ),
    "answers less often right": (
        lambda: [*fast(), answers(Q8, [True] * 60), answers(Q4, [n % 3 > 0 for n in range(60)])],
        "analysis",
        BITS,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_only_what_is_shown_comes_before_the_bits(name: str) -> None:
    rows, task, wanted = CASES[name]
    answer = made(rows(), task)
    assert order(answer) == wanted
    assert answer.measured["decided"] == ("bits" if wanted == BITS else "measured")
    said = [reason for reason in answer.reasons if reason.startswith("Q4_K_M before Q8_0: measured here, ")]
    assert bool(said) is (wanted != BITS)
    assert any("the best given quant" in reason for reason in answer.reasons) is (wanted == BITS)


SAME = (reading(Q8, CLEAN), reading(Q4, CLEAN))
TWO_RUNS = [*speed(Q8, CARD, tg=40, run="r1"), *speed(Q4, CARD, tg=80, run="r2")]


@pytest.mark.parametrize(
    ("rows", "here", "wanted", "why"),
    [
        (fast(), CARD, Q4_FIRST, None),
        (fast(), OTHER_HOST, BITS, "measured on another machine"),
        (fast(), OTHER_DRIVER, BITS, "measured under driver 580.126, and 550.54 is in use"),
        (fast(), OTHER_CARD, BITS, "which is not here"),
        (fast(), replace(CARD, hypothetical=True), BITS, "the card is described"),
        (
            fast(engine="llama-cpp-python 0.2.1"),
            CARD,
            BITS,
            "measured with llama-cpp-python 0.2.1, and 0.3.36 is in use",
        ),
        (fast(engine="unheard-of 7"), CARD, Q4_FIRST, None),
        ([*speed(Q8, NO_CARD, tg=4), *speed(Q4, NO_CARD, tg=8)], CARD, BITS, "measured on the processor"),
        ([*speed(Q8, NO_CARD, tg=4), *speed(Q4, NO_CARD, tg=8)], NO_CARD, Q4_FIRST, None),
        (TWO_RUNS, CARD, Q4_FIRST, None),
        ([*speed(Q8, CARD, tg=40, run="r1"), *speed(Q4, CARD, tg=43, run="r2")], CARD, BITS, None),
        ([*speed(Q8, CARD, tg=40), *speed(Q4, CARD, tg=80, threads=8)], CARD, BITS, None),
        (fast(busy=BUSY), CARD, Q4_FIRST, None),
        ([*TWO_RUNS[:1], *speed(Q4, CARD, tg=80, run="r2", busy=BUSY)], CARD, BITS, None),
        ([replace(row, machine={}) for row in fast()], CARD, BITS, "a machine that is not known"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_speed_counts_where_it_was_taken_and_as_it_is_now(
    rows: list[Outcome], here: Machine, wanted: list[str], why: str | None
) -> None:
    answer = made([*rows, *SAME], here=here)
    assert order(answer) == wanted
    reasons = [entry["why"] for entry in answer.measured["set_aside"]]
    assert all(why in reason for reason in reasons) if why else not reasons
    assert bool(reasons) is bool(why)


def test_what_was_measured_again_counts_as_it_was_last() -> None:
    slow_now = [*speed(Q8, CARD, tg=80, run="r9"), *speed(Q4, CARD, tg=40, run="r9")]
    assert order(made([*fast(), *slow_now, *SAME])) == BITS


def test_text_measured_without_the_projector_is_of_the_same_weights() -> None:
    bare = [replace(model, projector=None) for model in (Q8, Q4)]
    assert model_key(bare[0]) != model_key(Q8)
    rows = [*speed(bare[0], CARD, tg=40), *speed(bare[1], CARD, tg=80)]
    assert order(made([*rows, *SAME])) == Q4_FIRST
    blind = [replace(row, model_key=model_key(model)) for row, model in zip(SAME, bare, strict=True)]
    with history.open() as kept:
        kept.clear()
    assert order(made([*rows, *blind])) == BITS, "pages are read with the projector: this one is another"


def test_rows_of_other_files_say_nothing() -> None:
    other = text_model(TEXT["qwen3-vl-4b"], "Q4_K_M", SEEING)
    assert order(made([replace(row, model_key=model_key(other)) for row in [*fast(), *SAME]])) == BITS


def test_small_losses_do_not_add_up_to_one_that_is_noticed() -> None:
    step = 0.8 * MARGINS["quality"]
    rows = [row for n, m in enumerate((Q8, Q6, Q4)) for row in quality(m, 0.0001 + n * step)]
    speeds = [row for n, m in enumerate((Q8, Q6, Q4)) for row in speed(m, CARD, tg=40 * 1.5**n)]
    assert order(made([*rows, *speeds], "chat")) == ["Q6_K", "Q8_0", "Q4_K_M"]


def test_a_variant_that_would_not_have_been_searched_is_found_by_what_was_measured() -> None:
    quants = ("Q8_0", "Q6_K", "Q4_K_M", "Q4_K_S", "Q4_0", "IQ4_XS")
    models = tuple(text_model(TEXT["qwen3-vl-2b"], quant, SEEING) for quant in quants)
    rows = [*(speed(models[0], CARD, tg=40)), *speed(models[-1], CARD, tg=80)]
    answer = made([*rows, reading(models[0], CLEAN), reading(models[-1], CLEAN)], models=models)
    assert order(answer)[0] == "IQ4_XS"


def test_what_does_not_fit_is_not_taken_however_good() -> None:
    small = replace(detect("cuda:5.4GiB free"), host=HOST)
    answer = made([reading(Q8, CLEAN), reading(Q6, BLURRED), reading(Q4, BLURRED)], here=small)
    assert order(answer) == ["Q6_K", "Q4_K_M"]


def test_the_plan_says_what_is_missing_and_what_was_compared() -> None:
    nothing = made([]).measured
    assert (nothing["decided"], nothing["beside"], nothing["set_aside"]) == ("bits", [], [])
    assert nothing["missing"] == ["speed", "reading"]
    assert [row["standing"] for row in nothing["variants"]] == ["open"] * 3
    described = made([], here=replace(CARD, hypothetical=True)).measured
    assert described["missing"] == ["reading"], "the speed of a card that is not here cannot be measured"
    answer = made([*fast(), *SAME])
    (one, *_) = answer.measured["beside"]
    assert (one["quant"], one["verdict"], one["measure"], one["pace_of"]) == ("Q8_0", "no worse", "reading", "task")
    assert one["pace"]["low"] > 1.5
    assert one["words"].startswith("no difference in reading shown (CER +0.00 points, +0.00 to +0.00; 60 pages), ")
    assert answer.measured["missing"] == ["speed", "reading"], "Q6_K was not measured"
    assert answer.as_data()["measured"] == answer.measured
    best, middle, small = answer.measured["variants"]
    assert [row["standing"] for row in (best, middle, small)] == ["behind", "open", "front"]
    assert (best["behind"], small["chosen"], middle["measured"]) == (["Q4_K_M"], True, {})
    assert small["memory_bytes"] < middle["memory_bytes"] < best["memory_bytes"]
    assert small["measured"]["tg"]["low"] < 80 < small["measured"]["tg"]["high"]
    assert small["measured"]["reading"]["test"] == "ocr made"


def test_every_profile_names_measures_that_there_are() -> None:
    for task in profiles().values():
        assert {name.split(" ")[0] for name in task.measured} <= MARGINS.keys()
        assert task.measured[-1] == "quality"


VERDICTS = st.sampled_from(["better", "worse", "no worse", "not shown", "not measured"])


@SOME
@given(st.integers(1, 6), st.data())
def test_the_order_is_one_of_the_same_variants_whatever_was_measured(n: int, data: st.DataObject) -> None:
    models = [replace(Q8) for _ in range(n)]
    held: dict[tuple[int, int], Beside] = {}

    def hold(ours: Model, theirs: Model) -> Beside:
        key = (id(ours), id(theirs))
        if key not in held:
            pace = data.draw(st.sampled_from([None, Interval(1.5, 1.2, 1.9, 9), Interval(1.0, 0.9, 1.1, 9)]))
            held[key] = Beside(data.draw(VERDICTS), pace=pace)
        return held[key]

    ordered = in_order(models, lambda m: m, hold)
    assert sorted(map(id, ordered)) == sorted(map(id, models))
    first = ordered[0]
    assert first is models[0] or hold(first, models[0]).is_no_worse, "nothing is lost beside the one of most bits"


def test_without_measurements_the_order_is_that_of_the_bits() -> None:
    models = [Q8, Q6, Q4]
    nothing = Measured()
    assert not nothing.speaks_of(Q8)
    assert in_order(models, lambda m: m, lambda a, b: Beside("not measured")) == tuple(models)
