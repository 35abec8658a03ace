"""Whether a model sees, on the real server: the picture's tokens to the last one."""

from __future__ import annotations

from typing import Any

import pytest

from qwenops.errors import BadInput, CheckFailed
from qwenops.model.read import read_model
from qwenops.ollama.register import register
from qwenops.ollama.sight import Sight, look
from qwenops.ollama.types import Spec
from tests.ollama.support import runtime_of
from tests.support.tiny import TinyModel


def sight(**changes: Any) -> Sight:
    made: dict[str, Any] = {
        "word": "KAPUFE 947",
        "answer": "The text is: Kapufe-947.",
        "grew_by_tokens": 18,
        "planned_tokens": 18,
        "width": 260,
        "height": 52,
        "seconds": 1.0,
        "read_required": True,
    }
    return Sight(**{**made, **changes})


@pytest.mark.parametrize(
    ("changes", "taken", "read", "ok"),
    [
        pytest.param({}, True, True, True, id="read, whatever stands around it"),
        pytest.param({"answer": "KAPUFE 974"}, True, False, False, id="read wrong"),
        pytest.param({"answer": "", "read_required": False}, True, False, True, id="reading not expected"),
        pytest.param({"grew_by_tokens": 0}, False, True, False, id="the picture was dropped"),
        pytest.param({"grew_by_tokens": 1026, "planned_tokens": 1024}, True, True, True, id="near enough"),
        pytest.param(
            {"grew_by_tokens": 1026, "planned_tokens": 18}, False, True, False, id="other tokens than planned"
        ),
        pytest.param({"grew_by_tokens": 256, "planned_tokens": None}, True, True, True, id="unknown family, grew"),
        pytest.param({"grew_by_tokens": 2, "planned_tokens": None}, False, True, False, id="unknown family, did not"),
    ],
)
def test_taken_and_read_are_told_apart(changes: dict[str, Any], taken: bool, read: bool, ok: bool) -> None:
    seen = sight(**changes)
    assert (seen.taken, seen.read, seen.ok, seen.exit_code) == (taken, read, ok, 0 if ok else 1)


@pytest.mark.server
@pytest.mark.slow
def test_a_small_random_model_takes_the_picture_and_reads_nothing(
    start_server: Any, tiny_qwen35: TinyModel, smollm: Any
) -> None:
    server = start_server(gpu=False)
    runtime = runtime_of(server)
    spec = Spec(shards=(tiny_qwen35.model,), projectors=(tiny_qwen35.projector,), parameters={"num_ctx": 2048})
    register(spec, "sees", runtime)
    register(Spec(shards=(smollm,), parameters={"num_ctx": 256}), "blind", runtime)

    first = look("sees", runtime, model=read_model(tiny_qwen35.model))
    second = look("sees", runtime, model=read_model(tiny_qwen35.model))

    assert first.grew_by_tokens == second.grew_by_tokens == first.planned_tokens
    assert first.ok
    assert not first.read
    assert not first.read_required
    assert not look("sees", runtime, model=read_model(tiny_qwen35.model), read_required=True).ok
    with pytest.raises(BadInput, match="has no projector"):
        look("blind", runtime)


@pytest.mark.server
@pytest.mark.slow
def test_a_context_too_small_for_the_picture_is_named(start_server: Any, tiny_qwen35: TinyModel) -> None:
    server = start_server(gpu=False, settings={"LLAMA_ARG_IMAGE_MIN_TOKENS": "3000"})
    runtime = runtime_of(server)
    spec = Spec(shards=(tiny_qwen35.model,), projectors=(tiny_qwen35.projector,), parameters={"num_ctx": 2048})
    register(spec, "narrow", runtime)

    with pytest.raises(CheckFailed, match="context"):
        look("narrow", runtime, model=read_model(tiny_qwen35.model))
