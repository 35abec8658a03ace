"""Whether a model sees, on the real server: the picture's tokens to the last one, and what each failure is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenops.errors import ServerDown
from qwenops.machine.types import Device
from qwenops.model.read import read_model
from qwenops.ollama.register import register
from qwenops.ollama.scene import Scene
from qwenops.ollama.sight import Sight, look, thinks_always
from qwenops.ollama.sight_causes import next_step, place, refusal, why
from qwenops.ollama.sight_judge import Finding, judge_reading, judge_relation
from qwenops.ollama.types import Spec
from qwenops.report.verify import sight_line
from qwenops.runtime.client import Client
from tests.ollama.support import runtime_of
from tests.support.server import OllamaServer
from tests.support.tiny import TinyModel, talker

SOFTWARE_GPU = Device("Vulkan0", "vulkan", "llvmpipe", 2 << 30, 2 << 30)
Start = Callable[..., OllamaServer]
SCENE = Scene("TEXT", "9473", "circle", "left", "square")


def registered(server: OllamaServer, name: str, tiny: TinyModel, **parameters: Any) -> None:
    spec = Spec(shards=(tiny.model,), projectors=(tiny.projector,), parameters={"num_ctx": 2048, **parameters})
    register(spec, name, runtime_of(server))


def parts_of(sight: Sight) -> dict[str, str]:
    return {f.part: f.cause for f in sight.findings}


@pytest.mark.server
@pytest.mark.slow
def test_what_is_said_decides_how_far_the_questions_go(
    start_server: Start, tiny_qwen35: TinyModel, smollm: Path, tmp_path: Path
) -> None:
    server = start_server(gpu=False)
    runtime = runtime_of(server)
    right = talker("qwen3vl", tmp_path / "right", "TEXT", "Ġ", "9", "4", "7", "3", "Ġleft")
    registered(server, "sees", right)
    registered(server, "counts-wrong", talker("qwen35", tmp_path / "wrong", "TEXT", "Ġ", "9", "7", "4", "3"))
    registered(server, "reads-nothing", tiny_qwen35)
    registered(
        server, "loops", talker("qwen3vl", tmp_path / "loops", "TEXT", "Ġ", "9", "4", "7", "3", "Ġleft", ends=False)
    )

    sees = look("sees", runtime, model=read_model(right.model), scene=SCENE, read_required=True)
    assert sees.ok
    assert parts_of(sees) == dict.fromkeys(("picture", "answer", "word", "number", "relation", "device"), "")
    assert sees.grew_by_tokens == sees.planned_tokens
    assert [a.said.text for a in sees.answers] == ["TEXT 9473 left"] * 2
    # the second question finds the picture in the server's cache: at least 1024 tokens that are not read again
    assert sees.answers[1].prompt_seconds < sees.answers[0].prompt_seconds / 4
    assert sight_line(sees.as_data()).startswith('read "TEXT" and 9473, found the circle left of the square (')

    mirrored = look("sees", runtime, scene=replace(SCENE, relation="right"), read_required=True)
    assert not mirrored.ok
    assert mirrored.as_data()["failed"] == "relation"
    assert 'expected "right", it said "TEXT 9473 left"' in sight_line(mirrored.as_data())

    wrong = look("counts-wrong", runtime, scene=SCENE, read_required=True)
    assert parts_of(wrong) == {"picture": "", "answer": "", "word": "", "number": "wrong", "device": ""}
    assert wrong.exit_code == 1
    assert len(wrong.answers) == 1

    # Ollama breaks a row of equal tokens off and counts nothing: the count is asked for once more
    loops = look("loops", runtime, scene=SCENE, read_required=True)
    assert parts_of(loops) == {"picture": "", "answer": "looping", "word": "", "number": "", "device": ""}
    assert loops.grew_by_tokens == sees.grew_by_tokens
    assert sight_line(loops.as_data()) == "NOT proven: it runs in a loop: left again and again"

    model = read_model(tiny_qwen35.model)
    first, second = look("reads-nothing", runtime, model=model), look("reads-nothing", runtime, model=model)
    assert first.grew_by_tokens == second.grew_by_tokens == first.planned_tokens
    assert first.ok
    assert not first.read_required
    assert first.scene != second.scene
    assert "not asked of a model that is not known to read" in sight_line(first.as_data())


@pytest.mark.server
@pytest.mark.slow
def test_a_projector_that_is_missing_or_another_models_is_named(
    start_server: Start, tiny_qwen3vl: TinyModel, smollm: Path
) -> None:
    server = start_server(gpu=False)
    runtime = runtime_of(server)
    register(Spec(shards=(smollm,), parameters={"num_ctx": 256}), "blind", runtime)
    registered(server, "mixed", TinyModel("mixed", smollm, tiny_qwen3vl.projector))

    blind, mixed = look("blind", runtime), look("mixed", runtime)

    assert parts_of(blind) == {"projector": "missing"}
    assert parts_of(mixed) == {"projector": "mismatch"}
    assert "n_embd = 576" in sight_line(mixed.as_data())
    assert all(s.exit_code == 1 and s.as_data()["do"][0].startswith("qwenops show ") for s in (blind, mixed))


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.vulkan
def test_a_projector_that_runs_on_the_cpu_beside_a_device_is_named(start_server: Start, tiny_qwen35: TinyModel) -> None:
    server = start_server()
    runtime = replace(runtime_of(server), log_path=server.log_path, devices=(SOFTWARE_GPU,))
    registered(server, "whole", tiny_qwen35, num_gpu=99)
    registered(server, "split", tiny_qwen35, num_gpu=2)

    whole, split = look("whole", runtime), look("split", runtime)

    assert parts_of(whole)["device"] == ""
    assert next(f for f in whole.findings if f.part == "device").observed == "Vulkan0"
    assert parts_of(split)["device"] == "cpu"
    assert sight_line(split.as_data()).startswith("NOT proven: it ran on the CPU: the projector on the CPU")


@pytest.mark.server
@pytest.mark.slow
def test_a_model_that_only_thinks_is_given_room_and_named_where_it_never_answers(
    start_server: Start, tiny_qwen3vl: TinyModel
) -> None:
    server = start_server(gpu=False)
    runtime = runtime_of(server)
    files = {"shards": (tiny_qwen3vl.model,), "projectors": (tiny_qwen3vl.projector,)}
    thinks = Spec(**files, parameters={"num_ctx": 4096}, renderer="qwen3-vl-thinking", parser="qwen3-vl-thinking")
    register(thinks, "thinks", runtime)

    thinking = look("thinks", runtime, scene=SCENE, read_required=True)

    assert thinks_always(Client(server.url).show("thinks"))
    assert parts_of(thinking)["answer"] == "thoughts"
    assert "it thought and never answered: 21 characters of thought" in sight_line(thinking.as_data())


@pytest.mark.server
@pytest.mark.slow
def test_a_cap_on_pictures_counts_in_what_is_planned(start_server: Start, tiny_qwen35: TinyModel) -> None:
    server = start_server(gpu=False, settings={"LLAMA_ARG_IMAGE_MAX_TOKENS": "40"})
    runtime = replace(runtime_of(server), environment={"LLAMA_ARG_IMAGE_MAX_TOKENS": "40"})
    registered(server, "capped", tiny_qwen35)

    capped = look("capped", runtime, model=read_model(tiny_qwen35.model))

    assert capped.grew_by_tokens == capped.planned_tokens
    assert capped.planned_tokens is not None
    assert 8 < capped.planned_tokens <= 42


@pytest.mark.server
@pytest.mark.slow
def test_a_context_too_small_for_the_picture_is_named(start_server: Start, tiny_qwen35: TinyModel) -> None:
    server = start_server(gpu=False, settings={"LLAMA_ARG_IMAGE_MIN_TOKENS": "3000"})
    registered(server, "narrow", tiny_qwen35)

    narrow = look("narrow", runtime_of(server), model=read_model(tiny_qwen35.model))

    assert parts_of(narrow) == {"picture": "context"}
    assert narrow.as_data()["do"] == ["qwenops update narrow --for ocr     (a larger num_ctx)"]
    server.stop()
    with pytest.raises(ServerDown):
        look("narrow", runtime_of_stopped(server))


def runtime_of_stopped(server: OllamaServer) -> Any:
    from qwenops.runtime.types import Runtime

    return Runtime(place="none", url=server.url)


@pytest.mark.parametrize(
    ("text", "part", "cause"),
    [
        ("error: mismatch between text model (n_embd = 576) and mmproj (n_embd = 512)", "projector", "mismatch"),
        (
            '{"error":{"message":"image input is not supported - hint: you may need the mmproj"}}',
            "projector",
            "missing",
        ),
        ("request (3015 tokens) exceeds the available context size (2048 tokens)", "picture", "context"),
        ("cudaMalloc failed: out of memory", "picture", "memory"),
        ("model runner has unexpectedly stopped", "picture", "refused"),
    ],
)
def test_a_refusal_is_understood_by_the_servers_words(text: str, part: str, cause: str) -> None:
    found = refusal(text)
    assert (found.part, found.cause) == (part, cause)
    assert text[:40] in why(found)
    assert "qwenops " in next_step(found, "it")[0]


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        pytest.param({"devices": False, "on_device_bytes": 0, "projector_backend": "CPU"}, "", id="no device"),
        pytest.param({"devices": False, "on_device_bytes": 9, "projector_backend": None}, "", id="another machine's"),
        pytest.param({"on_device_bytes": 9, "projector_backend": "CUDA0"}, "", id="all on the device"),
        pytest.param({"on_device_bytes": 9, "projector_backend": None}, "", id="a log out of reach"),
        pytest.param({"on_device_bytes": 0, "projector_backend": "CUDA0"}, "cpu", id="layers on the CPU"),
        pytest.param({"on_device_bytes": 9, "projector_backend": "CPU"}, "cpu", id="projector on the CPU"),
        pytest.param({"on_device_bytes": None, "projector_backend": None}, None, id="nothing known"),
    ],
)
def test_where_it_ran_is_judged_without_a_plan(seen: dict[str, Any], cause: str | None) -> None:
    found = place(**{"devices": True, "need": None, "moved": "insufficient VRAM", **seen})
    assert (found.cause if found else None) == cause
    if cause:
        assert found is not None
        assert "CPU" in why(found)


def sight(*changed: Finding, read_required: bool = True) -> dict[str, Any]:
    """A sight in which everything is right but what is given."""
    from qwenops.ollama.sight_judge import Said

    right = [
        Finding("picture", "92 tokens", "the prompt grew by 92 tokens"),
        *judge_reading(SCENE, Said("TEXT 9473")),
        judge_relation(SCENE, Said("left")),
    ]
    parts = {f.part: f for f in (*right, *changed)}
    return Sight("it", SCENE, (), tuple(parts.values()), 92, 92, 1.5, read_required, read_required).as_data()


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ((), 'read "TEXT" and 9473, found the circle left of the square (92 picture tokens, 1.5 s)'),
        (
            (Finding("picture", "92 tokens", "the prompt grew by 0 tokens", "ignored"),),
            "NOT proven: the picture was ignored: the prompt grew by 0 tokens, expected 92 tokens",
        ),
        (
            (Finding("word", "TEXT", "TAXT 9473", "wrong"),),
            'the word is wrong: expected "TEXT", it said "TAXT 9473"',
        ),
        (
            (Finding("answer", "", "ha again and again", "looping"),),
            "NOT proven: it runs in a loop: ha again and again",
        ),
        (
            (Finding("relation", "left", "hm", "undecided", required=False),),
            "it did not find the circle left of the square, which is not asked of a model this small",
        ),
        (
            (Finding("word", "TEXT", "x", "wrong", required=False),),
            "took the picture (92 picture tokens, 1.5 s); reading is not asked",
        ),
    ],
)
def test_every_outcome_is_one_plain_line(changed: tuple[Finding, ...], line: str) -> None:
    data = sight(*changed)
    assert line in sight_line(data)
    assert "\n" not in sight_line(data)
    assert bool(data["do"]) is not data["ok"]
