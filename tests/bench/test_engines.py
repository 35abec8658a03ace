"""Ollama and its llama-server measured for real, without a second copy of any weights, and what happens as they die."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qwenops.bench.engines.llama_server import LlamaServer
from qwenops.bench.engines.ollama import Ollama
from qwenops.bench.matrix import Matrix, Turn
from qwenops.bench.order import Effort
from qwenops.bench.types import SpeedSettings, SpeedTest, Variant
from qwenops.bench.watch import Watch
from qwenops.model.read import read_model
from qwenops.ollama.register import register
from qwenops.ollama.types import Spec
from qwenops.runtime.discover import discover
from tests.ollama.support import runtime_of, snapshot
from tests.support.children import children_named
from tests.support.cli import qwenops
from tests.support.server import OllamaServer
from tests.support.tiny import TinyModel

pytestmark = [pytest.mark.server, pytest.mark.slow]

SHORT = ("--prompt", 8, "--generate", 4, "--repetitions", 1, "--threads", 2, "--json")


def registered(server: OllamaServer, tiny: TinyModel, name: str) -> None:
    register(Spec(shards=(tiny.model,), parameters={"num_ctx": 512}), name, runtime_of(server))


def test_ollama_answers_with_its_own_durations_and_nothing_is_copied(
    ollama_server: OllamaServer, tiny_qwen3vl: TinyModel
) -> None:
    registered(ollama_server, tiny_qwen3vl, "quick")
    before = snapshot(ollama_server.store)
    env = {"OLLAMA_HOST": ollama_server.host}
    answer = qwenops("bench", "speed", "quick", "--engine", "ollama", "--depth", 8, *SHORT, env=env)
    assert answer.code == 0, answer.err
    rows = {r["test"]: r for r in answer.data["results"]}
    assert set(rows) == {"pp8 @ d8", "tg4 @ d8"}
    assert rows["pp8 @ d8"]["status"] == "cannot"
    assert "new tokens of a prompt" in rows["pp8 @ d8"]["reason"]
    for test in ("tg4 @ d8",):
        assert len(rows[test]["value"]["samples"]) == 1
        assert rows[test]["value"]["min"] > 0
        assert rows[test]["engine"].startswith("ollama 0.")
        assert rows[test]["model_key"]
    assert answer.data["models"][0]["load_seconds"] > 0
    assert answer.data["models"][0]["memory"]["planned"]
    assert snapshot(ollama_server.store) == before
    refused = qwenops("bench", "speed", tiny_qwen3vl.model, "--engine", "ollama", *SHORT, env=env)
    assert refused.code == 2
    assert "by their names in Ollama" in refused.err
    assert "no model nobody" in qwenops("bench", "speed", "nobody", "--engine", "ollama", *SHORT, env=env).err


def test_llama_server_reads_as_many_tokens_as_asked_behind_a_depth_too(
    ollama_server: OllamaServer, tiny_qwen3vl: TinyModel
) -> None:
    engine = LlamaServer(discover(ollama_server.url))
    variant = Variant("v", SpeedSettings(threads=2), read_model(tiny_qwen3vl.model))
    tests = [SpeedTest(8, 0, 8), SpeedTest(0, 4)]
    session = engine.open(variant, tests)
    try:
        folder = Path(session._socket).parent
        for test in tests:
            timing = session.time(test)
            assert timing.values[test.name] > 0
            assert timing.tokens == test.tokens
        assert session.info["version"] == engine.runtime.llama_server_build
    finally:
        session.close()
    assert not folder.exists()
    assert not children_named("llama-server")


def test_a_server_that_is_killed_fails_its_cell_and_keeps_what_is_done(
    ollama_server: OllamaServer, tiny_qwen3vl: TinyModel
) -> None:
    variant = Variant("v", SpeedSettings(threads=2), read_model(tiny_qwen3vl.model))
    killed: list[int] = []

    def kill_once(turn: Turn) -> None:
        if not killed:
            (child,) = children_named("llama-server")  # not Ollama, which other tests share
            child.kill()
            killed.append(child.pid)

    with Watch([]) as watch:
        matrix = Matrix(
            [variant],
            [SpeedTest(8, 0), SpeedTest(0, 4)],
            LlamaServer(discover(ollama_server.url)),
            Effort(1),
            "in turn",
            0,
            watch,
            on_turn=kill_once,
        )
        matrix.run()
    failed = [cell for cell in matrix.cells.values() if cell.status == "failed"]
    assert [cell.reason.startswith("llama-server was ended by signal 9") for cell in failed] == [True]
    assert [len(cell.samples) for cell in matrix.cells.values() if cell.status == "ok"] == [1]


def test_ollama_dying_fails_what_is_left_and_keeps_what_is_done(
    start_server: Callable[..., OllamaServer], tiny_qwen3vl: TinyModel
) -> None:
    server = start_server()
    registered(server, tiny_qwen3vl, "mortal")
    engine = Ollama(discover(server.url), {"num_thread": 2})
    variant = Variant("mortal", SpeedSettings(), read_model(tiny_qwen3vl.model), "mortal")
    with Watch([]) as watch:
        matrix = Matrix(
            [variant],
            [SpeedTest(8, 0)],
            engine,
            Effort(2),
            "in turn",
            0,
            watch,
            on_turn=lambda turn: server.stop() if turn.round_ == 0 else None,
        )
        matrix.run()
    assert len(done(matrix)) == 1
    assert all(cell.status == "failed" and cell.reason for cell in matrix.cells.values())


def done(matrix: Matrix) -> list[object]:
    return [cell for cell in matrix.cells.values() if cell.samples]


def test_what_a_server_cannot_say_is_said(ollama_server: OllamaServer, tiny_qwen3vl: TinyModel) -> None:
    runtime = discover(ollama_server.url)
    variant = Variant("v", SpeedSettings(kv_type="q4_0"), read_model(tiny_qwen3vl.model), "v")
    picture, load = SpeedTest(0, 0, image=(64, 64)), SpeedTest(0, 0, load="cold")
    assert "as one" in Ollama(runtime).cannot(variant, picture)
    assert "as one" in LlamaServer(runtime).cannot(variant, picture)
    assert "one KV type for all models" in Ollama(runtime).cannot(variant, SpeedTest(8, 0))
    assert "not in reach" in Ollama(runtime).cannot(Variant("v", SpeedSettings(), None, "v"), load)
    assert Ollama(runtime).cannot(Variant("v", SpeedSettings(), variant.model, "v"), load) == ""
