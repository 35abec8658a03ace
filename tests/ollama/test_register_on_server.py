"""Registration against a real Ollama: what it lists, shows and answers after a link."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from qwenops.ollama.models import list_models, show_model
from qwenops.ollama.register import register
from qwenops.ollama.remove import remove_model
from qwenops.ollama.types import Message, Spec
from qwenops.runtime.client import Client
from tests.ollama.support import runtime_of, snapshot
from tests.support.server import OllamaServer
from tests.support.tiny import TinyModel

pytestmark = pytest.mark.server


def test_a_linked_model_answers_and_shares_the_users_file(start_server: Any, smollm: Path) -> None:
    runtime = runtime_of(start_server(gpu=False))
    spec = Spec(shards=(smollm,), parameters={"num_ctx": 512, "temperature": 0.0})

    done = register(spec, "linked-chat", runtime)

    assert (done.changed, done.confirmed, done.bytes_copied) == (True, True, 0)
    blob = next(f.blob for m in list_models(runtime) if m.name == "linked-chat:latest" for f in m.files)
    if done.how == "linked":
        assert blob is not None
        assert os.path.samefile(blob, smollm.resolve())
    answer = Client(runtime.url).generate("linked-chat", "The capital of France is", options={"num_predict": 8})
    assert answer.text.strip()
    assert answer.tokens > 0
    remove_model(runtime, "linked-chat")
    assert Client(runtime.url).ps() == (), "it does not stay in memory"
    assert smollm.exists()


def test_the_second_registration_changes_nothing(ollama_server: OllamaServer, tiny_qwen3vl: TinyModel) -> None:
    runtime = runtime_of(ollama_server)
    spec = Spec(shards=(tiny_qwen3vl.model,), projectors=(tiny_qwen3vl.projector,), parameters={"num_ctx": 512})
    first = register(spec, "twice", runtime)
    before = snapshot(ollama_server.store)

    second = register(spec, "twice", runtime)

    assert (first.changed, second.changed) == (True, False)
    assert (second.digest, second.bytes_linked) == (first.digest, 0)
    assert snapshot(ollama_server.store) == before
    remove_model(runtime, "twice")


def test_the_server_shows_every_word_of_the_spec(ollama_server: OllamaServer, tiny_qwen3vl: TinyModel) -> None:
    runtime = runtime_of(ollama_server)
    spec = Spec(
        shards=(tiny_qwen3vl.model,),
        projectors=(tiny_qwen3vl.projector,),
        parameters={"num_ctx": 2048, "temperature": 0.7, "top_p": 0.95, "stop": ["<a>", "b & c"]},
        system='You read "pages" & <tables>.\nNothing else.',
        license=("Apache-2.0", "and another"),
        messages=(Message("user", "hello"), Message("assistant", "hi")),
        renderer="qwen3-vl-instruct",
        parser="qwen3-vl-instruct",
        requires="0.14.0",
    )

    register(spec, "me/words:v1", runtime)
    shown = Client(runtime.url).show("me/words:v1")

    assert shown["details"]["family"] == "qwen3vl"
    assert shown["details"]["format"] == "gguf"
    assert shown["details"]["quantization_level"] == "F16"
    assert "vision" in shown["capabilities"]
    assert shown["system"] == spec.system
    assert shown["license"] == "Apache-2.0\nand another"
    assert "RENDERER qwen3-vl-instruct\nPARSER qwen3-vl-instruct" in shown["modelfile"]
    assert shown["requires"] == "0.14.0"
    assert [(m["role"], m["content"]) for m in shown["messages"]] == [("user", "hello"), ("assistant", "hi")]
    ours = show_model(runtime, "me/words:v1")
    assert ours.parameters == dict(spec.parameters)
    assert ours.listed.made_by_qwenops
    assert ours.listed.state == "ok"
    remove_model(runtime, "me/words:v1")
