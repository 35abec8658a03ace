"""The search finds the largest context that fits, and never promises more than is free."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from qwenops.machine.types import Device, Host
from qwenops.memory.types import Band, DeviceNeed, HostNeed, Layers, LoadSettings, Need
from qwenops.model.types import Model
from qwenops.plan.ground import Ground
from qwenops.plan.profile import profile
from qwenops.plan.search import Scene, first_choice, largest_context, widen
from qwenops.plan.types import Wish
from qwenops.units import GIB, MIB
from tests.support.shapes import TEXT, VISION, text_model, vision_projector

MODEL = text_model(TEXT["qwen3-vl-2b"], "Q4_K_M", vision_projector(VISION["qwen3-vl-2b"]))
HOST = Host(32 * GIB, 32 * GIB, 8, 8, "linux", "x86_64")


def scene(free_bytes: int, fixed_bytes: int, per_token: int, per_ubatch: int, *, liar: float = 1.0) -> Scene:
    """A device whose need is linear in context and ubatch; the best rung says `liar` times what the quick one says."""

    def ask(factor: float) -> object:
        def answer(model: Model, settings: LoadSettings) -> Need:
            total = int((fixed_bytes + per_token * settings.num_ctx + per_ubatch * settings.ubatch) * factor)
            return Need(
                rung="closed form",
                settings=settings,
                devices=(DeviceNeed("CUDA0", "cuda", free_bytes, weights_bytes=total),),
                host=HostNeed(),
                layers=Layers(29, 29),
                band=Band(total, total),
                sources={},
            )

        return answer

    return Scene(
        profile=profile("chat"),
        ground=Ground((Device("CUDA0", "cuda", "card", free_bytes, free_bytes),), HOST, None, "f16", "auto", None, {}),
        wish=Wish(headroom_bytes=0),
        quick=ask(1.0),  # type: ignore[arg-type]
        best=ask(liar),  # type: ignore[arg-type]
        warmup_saving=lambda *_: 0,
    )


@given(
    free=st.integers(1, 64).map(lambda n: n * 256 * MIB),
    fixed=st.integers(0, 8 * GIB),
    per_token=st.integers(0, MIB),
)
def test_the_largest_context_fits_and_one_step_more_does_not(free: int, fixed: int, per_token: int) -> None:
    on = scene(free, fixed, per_token, 0)
    start = first_choice(MODEL, on)
    found = largest_context(start, on, low=256, high=32768)

    def needs(num_ctx: int) -> int:
        return fixed + per_token * num_ctx

    if found == 0:
        assert needs(256) > free
    else:
        assert needs(found) <= free
        assert found == 32768 or needs(found + 256) > free


@given(
    free=st.integers(4, 64).map(lambda n: n * 256 * MIB),
    per_token=st.integers(1, 200_000),
    per_ubatch=st.integers(0, MIB),
    liar=st.floats(0.9, 1.3),
)
def test_what_is_said_to_fit_fits_by_the_best_rung_even_when_the_quick_one_errs(
    free: int, per_token: int, per_ubatch: int, liar: float
) -> None:
    on = scene(free, 0, per_token, per_ubatch, liar=liar)
    judged = widen(first_choice(MODEL, on), on)
    if judged.fits == "yes":
        assert judged.need.total_device_bytes <= free


@given(images=st.integers(0, 4), tokens=st.sampled_from([1024, 2048, 4096]))
def test_the_context_is_never_below_the_images_the_prompt_and_the_answer(images: int, tokens: int) -> None:
    on = scene(64 * GIB, 0, 1000, 0)
    on = replace(on, wish=Wish(images=images, image_tokens=tokens))
    start = first_choice(MODEL, on)
    task = on.profile
    assert start.settings.num_ctx >= images * (tokens + 2) + task.prompt_tokens + task.answer_tokens
    assert widen(start, on).choice.settings.num_ctx >= start.settings.num_ctx


def test_a_pinned_context_stays_as_it_was_pinned() -> None:
    on = replace(scene(64 * GIB, 0, 1000, 0), wish=Wish(num_ctx=6000))
    assert widen(first_choice(MODEL, on), on).choice.settings.num_ctx == 6000


def test_a_pinned_ubatch_stays_as_it_was_pinned() -> None:
    on = replace(scene(64 * GIB, 0, 1000, 0), wish=Wish(ubatch=768))
    assert widen(first_choice(MODEL, on), on).choice.settings.ubatch == 768
