"""The matrix agrees with the planner's own verdict, and a larger card never holds less."""

from __future__ import annotations

from dataclasses import replace

from qwenops.machine.detect import detect
from qwenops.plan.choose import plan
from qwenops.plan.matrix import SMALLEST_CONTEXT, fits_matrix
from qwenops.plan.types import Wish
from tests.plan.test_choose import HOST, variants

CARDS = ("4GiB", "6GiB", "RTX 3050 8GB", "RTX 3060 12GB", "16GiB", "RTX 4090")


def test_a_larger_card_never_holds_a_smaller_context_and_a_better_quant_never_a_larger_one() -> None:
    models = variants("qwen3-vl-8b", "Q8_0 Q4_K_M", vision="qwen3-vl-8b")
    rows = fits_matrix(models, [replace(detect(card), host=HOST) for card in CARDS], Wish())
    for row in rows:
        contexts = [cell.num_ctx for cell in row]
        assert contexts == sorted(contexts)
    assert all(better.num_ctx <= smaller.num_ctx for better, smaller in zip(rows[0], rows[1], strict=True))


def test_what_the_matrix_says_fits_fits_by_the_planner_and_one_step_more_does_not() -> None:
    models = variants("qwen3-vl-8b", "Q4_K_M", vision="qwen3-vl-8b")
    machine = replace(detect("RTX 3060 12GB"), host=HOST)
    ((cell,),) = fits_matrix(models, [machine], Wish())
    assert cell.num_ctx > SMALLEST_CONTEXT
    assert not cell.whole
    assert cell.needed_bytes <= cell.free_bytes
    at, above = (
        plan(models, "chat", machine, None, Wish(num_ctx=n, ubatch=512)) for n in (cell.num_ctx, cell.num_ctx + 256)
    )
    assert at.fits == "yes"
    assert above.fits != "yes"


def test_a_model_that_does_not_fit_has_no_context() -> None:
    ((cell,),) = fits_matrix(variants("qwen3-vl-32b", "Q8_0"), [replace(detect("8GiB"), host=HOST)], Wish())
    assert cell.num_ctx == 0
    assert cell.needed_bytes > cell.free_bytes
