"""Family and mode are read from the header; what is known of a family has its source; the rest is not claimed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenops.errors import BadInput
from qwenops.model.types import Header, Model, Projector
from qwenops.modelfile.context import context_for
from qwenops.modelfile.families import chat_format, family_of, mode_of, requires
from qwenops.modelfile.lint_words import PARSERS, RENDERERS
from qwenops.modelfile.parameters import typed
from qwenops.modelfile.sampling import families, sampling
from qwenops.modelfile.spec import is_version
from qwenops.modelfile.types import Mode
from qwenops.tables import load_table


def header(path: str, **metadata: Any) -> Header:
    return Header(Path(path), 3, {k.replace("__", "."): v for k, v in metadata.items()}, (), 32, 0, 0)


def model(architecture: str, name: str, file: str = "m.gguf", projector: str | None = None, **metadata: Any) -> Model:
    keys = {"general__architecture": architecture, "general__name": name, **metadata}
    eye = Projector(Path("p.gguf"), header("p.gguf"), projector, 4096, 0) if projector else None
    return Model(name, architecture, header(file, **keys), (Path(file),), "Q4_K_M", 0, 0, eye)


FAMILIES: dict[str, tuple[Model, str, Mode]] = {
    "Qwen3-VL Instruct": (model("qwen3vl", "Qwen3 VL 8B Instruct"), "qwen3-vl", "instruct"),
    "Qwen3-VL Thinking": (model("qwen3vl", "Qwen3 VL 8B Thinking"), "qwen3-vl", "thinking"),
    "Qwen3-VL MoE, named by its file": (
        model("qwen3vlmoe", "x", "Qwen3VL-30B-A3B-Thinking-Q4_K_M.gguf"),
        "qwen3-vl",
        "thinking",
    ),
    "Qwen2.5-VL by its projector": (
        model("qwen2vl", "checkpoint", projector="qwen2.5vl_merger"),
        "qwen2.5-vl",
        "instruct",
    ),
    "Qwen2.5-VL by its name": (model("qwen2vl", "Qwen2.5 VL 7B Instruct"), "qwen2.5-vl", "instruct"),
    "Qwen2.5-VL in Ollama's own library": (model("qwen25vl", "x"), "qwen2.5-vl", "instruct"),
    "Qwen2-VL": (model("qwen2vl", "Qwen2 VL 2B Instruct", projector="qwen2vl_merger"), "qwen2-vl", "instruct"),
    "Qwen3.5": (model("qwen35", "Qwen3.5 9B"), "qwen3.5", "thinking"),
    "Qwen3.6 MoE": (model("qwen35moe", "Qwen3.6-35B-A3B"), "qwen3.6", "thinking"),
    "Qwen3.8 by its base model": (
        model("qwen35", "My finetune", general__base_model__0__name="Qwen3.8 27B"),
        "qwen3.8",
        "thinking",
    ),
    "a child of Qwen3.5 without a name": (model("qwen35", "x"), "qwen3.5", "thinking"),
    "Qwen3.55 is none": (model("qwen35", "Qwen3.55"), "qwen3.5", "thinking"),
    "Qwen3": (model("qwen3", "Qwen3 8B"), "qwen3", "thinking"),
    "Qwen3 Instruct": (model("qwen3", "Qwen3 4B Instruct 2507"), "qwen3", "instruct"),
    "another maker's Qwen3 architecture": (model("qwen3", "Some Reranker"), "other", "instruct"),
    "Qwen2.5": (model("qwen2", "Qwen2.5 7B Instruct"), "qwen2", "instruct"),
    "Llama": (model("llama", "SmolLM2 135M"), "llama", "instruct"),
    "anything else": (model("gemma3", "Gemma 3"), "gemma3", "instruct"),
}


@pytest.mark.parametrize(("given", "family", "mode"), FAMILIES.values(), ids=FAMILIES)
def test_knows_family_and_mode(given: Model, family: str, mode: Mode) -> None:
    assert (family_of(given), mode_of(given)) == (family, mode)


def test_every_value_has_a_source_and_a_type_that_ollama_takes() -> None:
    for family in families():
        for mode in load_table("qwenops.modelfile", "sampling.toml")[family]:
            for chosen in ("default", "verbatim"):
                given = sampling(family, mode, chosen)
                assert given.values
                assert given.sources.keys() == given.values.keys()
                assert all(given.sources.values())
                assert {k: typed(k, str(v)) for k, v in given.values.items()} == given.values
                grouped = [(name, source) for source, group in given.by_source() for name in group]
                assert dict(grouped) == given.sources
                assert len(grouped) == len(given.values)


OFFICIAL: dict[str, tuple[str, Mode, str, dict[str, float]]] = {
    "Qwen3-VL Instruct, vision": (
        "qwen3-vl",
        "instruct",
        "default",
        {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repeat_penalty": 1.0, "presence_penalty": 1.5},
    ),
    "Qwen3-VL Thinking, perception": (
        "qwen3-vl",
        "thinking",
        "verbatim",
        {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "repeat_penalty": 1.0, "presence_penalty": 0.0},
    ),
    "Qwen2.5-VL": ("qwen2.5-vl", "instruct", "verbatim", {"temperature": 0.1, "top_p": 0.001, "repeat_penalty": 1.05}),
    "Qwen3.5 thinking, precise": (
        "qwen3.5",
        "thinking",
        "verbatim",
        {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0, "repeat_penalty": 1, "presence_penalty": 0},
    ),
    "Qwen3.6 thinking, general": (
        "qwen3.6",
        "thinking",
        "default",
        {"temperature": 1.0, "top_p": 0.95, "top_k": 20, "min_p": 0, "repeat_penalty": 1, "presence_penalty": 0},
    ),
    "Qwen3.8 instruct": (
        "qwen3.8",
        "instruct",
        "default",
        {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0, "repeat_penalty": 1, "presence_penalty": 1.5},
    ),
}


@pytest.mark.parametrize(("family", "mode", "chosen", "values"), OFFICIAL.values(), ids=OFFICIAL)
def test_the_values_are_the_published_ones(family: str, mode: Mode, chosen: str, values: dict[str, float]) -> None:
    assert sampling(family, mode, chosen).values == values


def test_another_makers_model_gets_no_claim() -> None:
    given = sampling(family_of(model("qwen3moe", "Some Reranker")), "instruct")
    assert given.values == {}
    assert "Ollama's own defaults hold" in given.note


@pytest.mark.parametrize("family", list(load_table("qwenops.modelfile", "families.toml")))
def test_every_renderer_and_parser_is_one_of_ollamas(family: str) -> None:
    assert is_version(requires(family))
    modes: tuple[Mode, Mode] = ("instruct", "thinking")
    for mode in modes:
        said = chat_format(family, mode)
        assert (said.renderer in RENDERERS and said.parser in PARSERS) or (said.renderer, said.parser) == (None, None)
        assert said.reason


def test_says_when_there_is_no_chat_template_at_all() -> None:
    assert "prompts go in as they are" in chat_format("llama", "instruct", has_chat_template=False).reason
    assert chat_format("qwen3-vl", "instruct", has_chat_template=False).renderer == "qwen3-vl-instruct"


def test_the_context_of_a_model() -> None:
    given = model("qwen3vl", "Qwen3 VL 8B Instruct", projector="qwen3vl_merger", qwen3vl__block_count=36)
    made = context_for(given, "ocr", num_ctx=20480, images=2, image_tokens=4096)
    assert (made.layers, made.num_predict, made.images, made.family) == (37, 8192, 2, "qwen3-vl")
    assert made.projector_path == Path("p.gguf").absolute()
    assert [p.text for p in made.prompts] == ["Read all the text in the image.", "qwenvl markdown", "qwenvl html"]
    pinned = context_for(given, "ocr", num_ctx=8192, images=2, image_tokens=4096)
    assert pinned.num_predict == 4096, "half of a context that does not hold the task"
    assert context_for(given, "ocr", num_ctx=8192).num_predict == 7168, "what the prompt leaves"
    assert context_for(given, "ocr", num_ctx=8192, num_predict=100).num_predict == 100
    assert context_for(given, "chat", num_ctx=8192).num_predict is None
    unnamed = model("qwen3vl", "Qwen3 VL 8B")
    assert context_for(unnamed, "ocr", num_ctx=8192, mode="thinking").format.renderer == "qwen3-vl-thinking"
    with pytest.raises(BadInput, match="is the instruct model of its family"):
        context_for(given, "ocr", num_ctx=8192, mode="thinking")
    assert context_for(unnamed, "thinking", num_ctx=32768, images=1, image_tokens=4096).mode == "thinking"
    with pytest.raises(BadInput, match="and thinking is for one that thinks"):
        context_for(given, "thinking", num_ctx=32768)
    with pytest.raises(BadInput, match="contradicts the task"):
        context_for(unnamed, "thinking", num_ctx=32768, mode="instruct")
    blind = context_for(replace(given, projector=None), "ocr", num_ctx=20480, images=2, image_tokens=4096)
    assert (blind.images, blind.image_tokens, blind.prompts, blind.hints) == (0, 0, (), ())


def test_a_model_that_is_not_known_to_think_is_not_set_up_to() -> None:
    silent = model("qwen2vl", "Qwen2.5 VL 7B", projector="qwen2.5vl_merger")
    with pytest.raises(BadInput, match="not known to think") as refused:
        context_for(silent, "thinking", num_ctx=32768)
    assert "--mode thinking" in refused.value.do[1]
    assert context_for(silent, "thinking", num_ctx=32768, mode="thinking").mode == "thinking"
    assert context_for(model("qwen35", "Qwen3.5 9B"), "thinking", num_ctx=32768).mode == "thinking"
    assert context_for(model("qwen3vl", "Qwen3 VL 8B Thinking"), "thinking", num_ctx=32768).mode == "thinking"
