"""Model names are parsed and judged as Ollama does it."""

from __future__ import annotations

import base64
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.errors import BadInput
from qwenops.runtime.names import checked_name, name_from_path, parse_name
from tests.runtime.oracle_build import Oracle

VALID = [
    ("smol", "registry.ollama.ai/library/smol:latest", "smol:latest"),
    ("smol:q4_0", "registry.ollama.ai/library/smol:q4_0", "smol:q4_0"),
    ("me/smol", "registry.ollama.ai/me/smol:latest", "me/smol:latest"),
    ("hf.co/Qwen/Qwen3-VL-8B:Q4_K_M", "hf.co/Qwen/Qwen3-VL-8B:Q4_K_M", "hf.co/Qwen/Qwen3-VL-8B:Q4_K_M"),
    ("localhost:5000/a/b", "localhost:5000/a/b:latest", "localhost:5000/a/b:latest"),
    ("https://host.x/a/b:c", "host.x/a/b:c", "host.x/a/b:c"),
    ("Registry.Ollama.AI/Library/smol", "Registry.Ollama.AI/Library/smol:latest", "smol:latest"),
    ("_a.b-c_9:1.0", "registry.ollama.ai/library/_a.b-c_9:1.0", "_a.b-c_9:1.0"),
]
INVALID = ["", ":", "a:", ":a", "/a", "a/", "a//b", "-a", ".a", "a b", "a/b.c/d/e/f", "n.s/m", "é", "m@sha256:0"]
INVALID += ["m" * 81, "a:b:c"]


@pytest.mark.parametrize(("text", "full", "short"), VALID)
def test_a_name_gets_ollamas_defaults(text: str, full: str, short: str) -> None:
    name = checked_name(text)
    assert (str(name), name.short) == (full, short)


@pytest.mark.parametrize("text", INVALID)
def test_a_name_that_ollama_refuses_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="not a model name"):
        checked_name(text)


@given(st.text(alphabet="aZ0_-.:/@ é!", max_size=24))
def test_a_valid_name_is_read_back_from_its_path(text: str) -> None:
    name = parse_name(text)
    if name.valid:
        assert name_from_path(name.relative_path.as_posix()) == name
        assert parse_name(str(name)) == name
        assert parse_name(name.short).folded == name.folded


@pytest.mark.parametrize("path", ["a/b/c", "a/b/c/d/e", "a/b/c/.hidden", "a/b.b/c/d", ""])
def test_a_path_that_is_no_name_is_none(path: str) -> None:
    assert name_from_path(path) is None


@pytest.mark.go
@pytest.mark.slow
def test_ollama_itself_judges_every_name_so(oracle: Oracle) -> None:
    pieces = ["", "a", "A.b", "-x", "_", "x:1", "h:5000", "https://", "é", "m" * 80, "m" * 81, "h" * 350, "@", " "]
    texts = [text for text, _, _ in VALID] + INVALID
    parts = product(pieces, ("", "/"), pieces, ("", "/", ":"), pieces[:8], ("", ":t"))
    texts += ["".join(some) for some in parts]
    answers = oracle.ask({"op": "name", "text": base64.b64encode(t.encode()).decode()} for t in texts)
    for text, answer in zip(texts, answers, strict=True):
        name = parse_name(text)
        assert name.valid is answer["valid"], text
        if name.valid:
            told = (str(name), name.short, name.relative_path.as_posix())
            assert told == (answer["full"], answer["short"], answer["path"]), text
