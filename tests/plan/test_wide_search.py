"""The search asks few questions and finds what asking all of them would have found, under the same order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenops.machine.detect import detect
from qwenops.machine.types import Device, Host
from qwenops.memory.types import Band, DeviceNeed, HostNeed, KVType, Layers, LoadSettings, Need
from qwenops.model.quants import quality_rank
from qwenops.model.types import Model
from qwenops.plan.choose import plan
from qwenops.plan.ground import Ground, ground
from qwenops.plan.nearest import nearest
from qwenops.plan.order import decisive, merit
from qwenops.plan.profile import CONTEXT_STEP, profile, profiles
from qwenops.plan.scene import make_scene
from qwenops.plan.search import Scene, best_that_fits, bound, first_choice, hopeless
from qwenops.plan.types import Choice, Judged, Wish
from qwenops.units import GIB, KIB, MIB
from tests.support.shapes import TEXT, VISION, text_model, vision_projector

HOST = Host(64 * GIB, 60 * GIB, 8, 16, "linux", "x86_64")
SEEING = vision_projector(VISION["qwen3-vl-2b"])
MODELS = [text_model(TEXT["qwen3-vl-2b"], quant, SEEING) for quant in ("Q8_0", "Q6_K", "Q4_K_M")]
UBATCHES = (2048, 1024, 512, 256, 128)
CACHE_SHARE = {"f16": 1.0, "q8_0": 0.53, "q4_0": 0.28}
SOME = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def scene(task: str, free_bytes: int, per_token: int, per_ubatch: int, per_image_token: int) -> Scene:
    """A card on which a need is the file, and a line in everything that can be chosen."""
    device = Device("CUDA0", "cuda", "card", free_bytes, free_bytes)

    def answer(model: Model, s: LoadSettings) -> Need:
        total = model.header.tensor_bytes + int(per_token * s.num_ctx * CACHE_SHARE[s.kv_type_k])
        total += per_ubatch * s.ubatch
        if s.projector_device == "gpu":
            total += SEEING.file_bytes + per_image_token * s.image_tokens
        if s.gpu_layers == "auto":
            total = free_bytes + 1  # no split here
        devices = (DeviceNeed("CUDA0", "cuda", free_bytes, weights_bytes=total),)
        return Need("closed form", s, devices, HostNeed(), Layers(29, 29), Band(total, total), {})

    return Scene(
        profile=profile(task),
        ground=Ground((device,), HOST, None, "f16", "auto", None, {}),
        wish=Wish(headroom_bytes=0),
        quick=answer,
        best=answer,
        warmup_saving=lambda *_: 0,
    )


def every_size(choice: Choice, on: Scene) -> Iterator[Judged]:
    """Every context and micro-batch of a choice that fits, all of them asked."""
    floor = choice.settings.num_ctx
    for num_ctx, ubatch in product(range(floor, max(floor, on.profile.context_goal) + 1, CONTEXT_STEP), UBATCHES):
        s = replace(choice.settings, num_ctx=num_ctx, batch=ubatch, ubatch=ubatch)
        judged = on.weigh(replace(choice, settings=s), on.quick)
        if judged.fits == "yes":
            yield judged


def asked_in_full(on: Scene) -> Choice | None:
    """The best of all variants in all sizes, nothing given up."""
    everything = (j for m in MODELS for j in every_size(first_choice(m, on), on))
    best = max(everything, key=lambda j: merit(j.choice, on.profile), default=None)
    return best.choice if best else None


CARDS = st.tuples(
    st.sampled_from(sorted(profiles())),
    st.integers(8, 24).map(lambda n: n * 256 * MIB),
    st.integers(8 * KIB, 128 * KIB),
    st.integers(0, 512 * KIB),
    st.integers(0, 256 * KIB),
)


@SOME
@given(CARDS)
def test_the_best_that_fits_is_the_best_of_all_there_are(card: tuple[str, int, int, int, int]) -> None:
    on = scene(*card)
    starts = [first_choice(m, on) for m in MODELS]
    found = [best for s in starts if (best := best_that_fits(s, on))]
    best = max(found, key=lambda j: merit(j.choice, on.profile), default=None)
    expected = asked_in_full(on)
    assert (
        (best.choice.model.quant, best.choice.settings)
        == ((expected.model.quant, expected.settings) if expected else None)
        if best
        else expected is None
    )
    for start, judged in ((s, best_that_fits(s, on)) for s in starts):
        if judged is not None:
            assert merit(judged.choice, on.profile) <= bound(start, on)
            assert not hopeless(start, on)


@SOME
@given(CARDS, st.permutations(["weights", "usual_ubatch", "context", "ubatch"]))
def test_so_it_is_under_any_order_of_preferences(card: tuple[str, int, int, int, int], order: list[str]) -> None:
    on = scene(*card)
    on = replace(on, profile=replace(on.profile, prefer=tuple(order)))
    found = [best for m in MODELS if (best := best_that_fits(first_choice(m, on), on))]
    merits = [merit(j.choice, on.profile) for j in found]
    expected = asked_in_full(on)
    assert max(merits, default=None) == (merit(expected, on.profile) if expected else None)


def given_up_in_full(on: Scene) -> Choice | None:
    """The best of everything with something given up: few things first, in the task's order, the best quant, mildly."""
    task, found = on.profile, []
    order = task.give_up
    combos = [set(c) for n in range(1, len(order) + 1) for c in combinations(order, n)]
    budgets = product((4096, 2048, 1024), {task.images, 1}, ("f16", "q8_0", "q4_0"), ("gpu", "cpu"))
    for (tokens, images, kv, projector), model in product(list(budgets), MODELS):
        given_up = {
            name
            for name, gone in {
                "image_tokens": tokens < 4096,
                "images": images < task.images,
                "cache": kv != "f16",
                "projector": projector == "cpu",
            }.items()
            if gone
        }
        if kv == "q4_0" or given_up not in combos:
            continue
        start = first_choice(model, on)
        floor = replace(task, images=images).floor(sees=True, image_tokens=tokens)
        kv_type: KVType = "q8_0" if kv == "q8_0" else "f16"
        s = replace(
            start.settings,
            num_ctx=min(floor, start.settings.num_ctx),
            image_tokens=tokens,
            kv_type_k=kv_type,
            kv_type_v=kv_type,
            projector_device="cpu" if projector == "cpu" else "gpu",
        )
        for judged in every_size(replace(start, settings=s, images=images), on):
            standing = (combos.index(given_up), -quality_rank(model.quant), -tokens)
            found.append((standing, judged))
    if not found:
        return None
    first = min(standing for standing, _ in found)
    return max((j for standing, j in found if standing == first), key=lambda j: merit(j.choice, task)).choice


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CARDS)
def test_the_first_way_out_is_the_best_of_all_ways_out(card: tuple[str, int, int, int, int]) -> None:
    on = scene(*card)
    starts = tuple(first_choice(m, on) for m in MODELS)
    if any(best_that_fits(s, on) for s in starts):
        return
    offered, expected = nearest(starts, on), given_up_in_full(on)
    if expected is None:
        assert all(other.judged.choice.settings.kv_type_k == "q4_0" for other in offered)
    else:
        first = offered[0].judged.choice
        assert (first.model.quant, first.images, first.settings) == (
            expected.model.quant,
            expected.images,
            expected.settings,
        )


@pytest.mark.parametrize("free_mib", [3700, 4100, 4600])
def test_a_plan_by_formula_is_the_best_of_all_there_are(free_mib: int) -> None:
    machine = replace(detect(f"cuda:{free_mib}MiB"), host=HOST)
    models = MODELS[1:]
    answer = plan(models, "compare", machine, None)
    on = make_scene("compare", ground(machine, None), Wish(), None)
    # every fourth step is asked, and the step at which the plan stopped with the next one
    best = None
    for model in models:
        start = first_choice(model, on)
        stops = {answer.chosen.choice.settings.num_ctx + n for n in (0, 256)} if answer.chosen else set()
        for num_ctx in sorted({*range(start.settings.num_ctx, 32769, 1024), 32768, *stops}):
            for ubatch in UBATCHES:
                s = replace(start.settings, num_ctx=num_ctx, batch=ubatch, ubatch=ubatch)
                judged = on.weigh(replace(start, settings=s), on.quick)
                if judged.fits == "yes" and (best is None or merit(judged.choice, on.profile) > best):
                    best = merit(judged.choice, on.profile)
    assert best == (merit(answer.chosen.choice, on.profile) if answer.chosen else None)
    assert answer.needs_asked < 150


def test_a_cache_below_q8_0_is_offered_only_where_nothing_else_fits() -> None:
    on = scene("ocr", 4 * GIB, 256 * KIB, 0, 128 * KIB)
    starts = tuple(first_choice(m, on) for m in MODELS)
    mild = nearest(starts, on)
    assert mild
    assert {o.judged.choice.settings.kv_type_k for o in mild} <= {"f16", "q8_0"}
    room = scene("ocr", 3 * GIB, 384 * KIB, 0, 0)
    harsh = nearest(starts, room)
    assert harsh
    assert {o.judged.choice.settings.kv_type_k for o in harsh} == {"q4_0"}
    for other in harsh:
        assert dict(other.judged.choice.server_settings)["OLLAMA_KV_CACHE_TYPE"] == "q4_0"


def test_every_runner_up_says_by_what_it_lost() -> None:
    machine = replace(detect("8GiB"), host=HOST)
    answer = plan(MODELS, "chat", machine, None)
    assert answer.chosen is not None
    assert [o.judged.choice.model.quant for o in answer.runners_up] == ["Q6_K", "Q4_K_M"]
    for other in answer.runners_up:
        assert decisive(answer.chosen.choice, other.judged.choice, profile("chat")) == "weights"
        assert "Q8_0 is the better quant" in other.why
