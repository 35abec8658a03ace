"""The planner on the shapes of real models and the sizes of real cards."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qwenops.errors import BadInput
from qwenops.machine.detect import detect
from qwenops.machine.types import Host
from qwenops.model.types import Model
from qwenops.plan.choose import plan
from qwenops.plan.profile import profiles
from qwenops.plan.types import Plan, Wish
from qwenops.units import GIB, MIB
from tests.support.shapes import TEXT, VISION, text_model, vision_projector

HOST = Host(64 * GIB, 60 * GIB, 8, 16, "linux", "x86_64")


def variants(shape: str, quants: str, *, vision: str | None = None) -> list[Model]:
    projector = vision_projector(VISION[vision]) if vision else None
    return [text_model(TEXT[shape], quant, projector) for quant in quants.split()]


def made(models: list[Model], gpu: str, task: str = "ocr", wish: Wish | None = None, pick: int | None = None) -> Plan:
    machine = replace(detect(gpu), host=HOST)
    return plan(models, task, machine, None, wish, pick=pick)


VL8 = "Q8_0 Q6_K Q4_K_M IQ4_XS"


@pytest.mark.parametrize(
    ("gpu", "quant"),
    [
        ("RTX 4090", "Q8_0"),
        ("16GiB", "Q8_0"),
        ("RTX 3060 12GB", "Q6_K"),
        ("none", "Q8_0"),
    ],
)
def test_the_best_quant_that_fits_a_qwen3_vl_8b_for_ocr(gpu: str, quant: str) -> None:
    answer = made(variants("qwen3-vl-8b", VL8, vision="qwen3-vl-8b"), gpu)
    assert answer.fits == "yes"
    assert answer.chosen is not None
    assert answer.chosen.choice.model.quant == quant
    for device in answer.chosen.need.devices:
        assert device.total_bytes <= device.free_bytes


def test_better_quants_are_rejected_with_what_they_need_and_what_would_have_fitted() -> None:
    answer = made(variants("qwen3-vl-8b", VL8, vision="qwen3-vl-8b"), "RTX 3060 12GB")
    (rejected,) = answer.rejected
    assert rejected.judged.choice.model.quant == "Q8_0"
    assert "needs" in rejected.why
    assert "would fit, too small for the task" in rejected.why


@pytest.mark.parametrize("task", sorted(profiles()))
def test_every_task_gets_the_context_it_needs(task: str) -> None:
    answer = made(variants("qwen3-vl-4b", "Q4_K_M", vision="qwen3-vl-4b"), "RTX 3060 12GB", task)
    assert answer.chosen is not None
    settings, wanted = answer.chosen.choice.settings, profiles()[task]
    assert settings.num_ctx >= wanted.floor(sees=True, image_tokens=4096)
    assert settings.num_ctx <= max(wanted.context_goal, wanted.floor(sees=True, image_tokens=4096))


def test_a_model_without_a_projector_needs_no_room_for_images() -> None:
    answer = made(variants("qwen3-4b", "Q4_K_M"), "RTX 3060 12GB")
    assert answer.chosen is not None
    assert answer.chosen.choice.images == 0
    assert not any("image" in reason for reason in answer.reasons)


def test_the_context_never_exceeds_what_the_model_was_trained_for() -> None:
    answer = made(variants("tinyllama-1.1b", "Q4_K_M"), "RTX 4090", "chat")
    assert answer.chosen is not None
    assert answer.chosen.choice.settings.num_ctx == 2048


def test_a_pinned_context_above_the_trained_one_is_lowered_and_said() -> None:
    answer = made(variants("tinyllama-1.1b", "Q4_K_M"), "RTX 4090", "chat", Wish(num_ctx=8192))
    assert answer.chosen is not None
    assert answer.chosen.choice.settings.num_ctx == 2048
    assert "--ctx 8192 is above the 2048 that the model was trained for" in answer.reasons


def test_num_gpu_is_written_only_where_the_runtime_would_spill_what_fits() -> None:
    models = variants("qwen3-vl-8b", "Q8_0", vision="qwen3-vl-8b")
    roomy, tight = made(models, "RTX 4090"), made(models, "16GiB")
    assert roomy.chosen is not None
    assert tight.chosen is not None
    assert roomy.chosen.choice.num_gpu is None
    assert roomy.chosen.runtime_keeps_all
    assert tight.chosen.choice.num_gpu == 37
    assert not tight.chosen.runtime_keeps_all
    assert any(reason.startswith("num_gpu 37") for reason in tight.reasons)


def test_where_ollamas_rule_puts_the_projector_on_the_cpu_the_plan_says_so() -> None:
    models = variants("qwen3-vl-2b", "Q4_K_M", vision="qwen3-vl-2b")
    small = made(models, "vulkan:1.7GiB free", "chat", Wish(images=0, num_ctx=2048))
    assert small.chosen is not None
    assert small.chosen.choice.settings.projector_device == "cpu"
    assert small.chosen.need.devices[0].projector_bytes == 0
    assert small.chosen.need.host.projector_bytes > 0
    assert small.chosen.choice.server_settings == ()
    large = made(models, "8GiB", "chat", Wish(images=0, num_ctx=2048))
    assert large.chosen is not None
    assert large.chosen.choice.settings.projector_device == "gpu"


def test_more_headroom_never_gives_a_better_quant() -> None:
    models = variants("qwen3-vl-8b", VL8, vision="qwen3-vl-8b")
    order = VL8.split()
    picked = []
    for headroom in (0, 512 * MIB, 1024 * MIB, 2048 * MIB):
        answer = made(models, "RTX 3060 12GB", wish=Wish(headroom_bytes=headroom))
        assert answer.chosen is not None
        assert answer.chosen.spare_bytes >= 0
        picked.append(order.index(answer.chosen.choice.model.quant))
    assert picked == sorted(picked)


def test_pins_are_kept() -> None:
    wish = Wish(num_ctx=8192, quant="q4_k_m", kv_type="q8_0", images=1, image_tokens=1024, projector_device="cpu")
    answer = made(variants("qwen3-vl-8b", VL8, vision="qwen3-vl-8b"), "RTX 4090", wish=wish)
    assert answer.chosen is not None
    choice = answer.chosen.choice
    assert (choice.model.quant, choice.settings.num_ctx, choice.settings.kv_type_k) == ("Q4_K_M", 8192, "q8_0")
    assert dict(choice.server_settings) == {
        "OLLAMA_KV_CACHE_TYPE": "q8_0",
        "LLAMA_ARG_IMAGE_MAX_TOKENS": "1024",
        "LLAMA_ARG_MMPROJ_OFFLOAD": "0",
    }


def test_a_cap_under_what_ollama_asks_for_is_refused_where_the_model_would_not_load() -> None:
    wish = Wish(image_tokens=512)
    with pytest.raises(BadInput, match="the model would not load"):
        made(variants("qwen3-vl-8b", VL8, vision="qwen3-vl-8b"), "RTX 4090", wish=wish)
    answer = made(variants("qwen3.5-9b", "Q4_K_M", vision="qwen3.5-9b"), "RTX 4090", wish=wish)
    assert answer.chosen is not None
    assert ("LLAMA_ARG_IMAGE_MAX_TOKENS", "512") in answer.chosen.choice.server_settings


def test_when_nothing_fits_every_suggestion_fits_and_says_what_it_costs() -> None:
    models = variants("qwen3-vl-8b", "Q8_0", vision="qwen3-vl-8b")
    answer = made(models, "RTX 3050 8GB")
    assert answer.fits == "no"
    assert answer.chosen is None
    assert answer.nearest
    for other in answer.nearest:
        assert other.judged.fits == "yes"
        assert other.why
        assert other.cost


def test_a_suggestion_can_be_picked() -> None:
    models = variants("qwen3-vl-8b", "Q8_0", vision="qwen3-vl-8b")
    offered = made(models, "RTX 3050 8GB").nearest
    for number, other in enumerate(offered, 1):
        taken = made(models, "RTX 3050 8GB", pick=number)
        assert taken.chosen is not None
        assert taken.chosen.choice.settings == other.judged.choice.settings


@pytest.mark.parametrize(
    ("wish", "pick", "said"),
    [
        (Wish(quant="Q9_K"), None, "none of the given variants is Q9_K"),
        (Wish(kv_type="q7_0"), None, "'q7_0' is not a KV type"),
        (Wish(), 1, "there are none: the plan fits"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_by_name(wish: Wish, pick: int | None, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        made(variants("qwen3-4b", "Q4_K_M"), "RTX 4090", wish=wish, pick=pick)


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(BadInput, match="there is no task 'ocrr'") as caught:
        made(variants("qwen3-4b", "Q4_K_M"), "RTX 4090", "ocrr")
    assert caught.value.do == ("--for ocr",)


def test_a_mixture_of_experts_is_offered_with_its_experts_on_the_cpu() -> None:
    answer = made(variants("qwen3-30b-a3b", "Q4_K_M"), "16GiB", "chat")
    assert answer.fits == "no"
    (offer,) = [o for o in answer.nearest if "experts on the CPU" in o.why]
    assert offer.judged.need.host.weights_bytes > GIB


def test_a_vision_model_without_its_projector_is_not_planned_in_silence() -> None:
    blind = made(variants("qwen3-vl-4b", "Q4_K_M"), "16GiB", "ocr")
    assert any("--mmproj" in note for note in blind.notes)
    text = made(variants("qwen3-4b", "Q4_K_M"), "16GiB", "ocr")
    assert any("cannot see" in note for note in text.notes)
    seeing = made(variants("qwen3-vl-4b", "Q4_K_M", vision="qwen3-vl-4b"), "16GiB", "ocr")
    assert not any("see" in note or "--mmproj" in note for note in seeing.notes)


def test_two_cards_share_what_one_cannot_hold() -> None:
    one = made(variants("qwen3-vl-8b", "Q8_0", vision="qwen3-vl-8b"), "cuda:8GiB")
    two = made(variants("qwen3-vl-8b", "Q8_0", vision="qwen3-vl-8b"), "cuda:8GiB,cuda:8GiB")
    assert one.fits == "no"
    assert two.fits == "yes"
    assert two.chosen is not None
    assert len(two.chosen.need.devices) == 2
