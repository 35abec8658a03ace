"""What a Modelfile asks for is gathered as `ollama create` does; parameters are typed as Ollama types them."""

from __future__ import annotations

import math
import os
import random
import struct
from pathlib import Path

import pytest

from qwenops.errors import BadInput
from qwenops.modelfile.grammar import parse
from qwenops.modelfile.parameters import DEPRECATED, PARAMETERS, instead_of, typed
from qwenops.modelfile.spec import expand, spec_of
from qwenops.modelfile.types import Message
from tests.modelfile.conftest import Judge


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.gguf", "mmproj.gguf", "lora.gguf", "draft.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    return tmp_path


def test_gathers_everything(folder: Path) -> None:
    text = (
        "FROM ./a.gguf\nFROM mmproj.gguf\nADAPTER lora.gguf\nDRAFT draft.gguf\nTEMPLATE t\nSYSTEM one\nSYSTEM two\n"
        "LICENSE x\nLICENSE y\nMESSAGE user hi: you\nRENDERER r\nPARSER p\nREQUIRES v0.30\n"
        "PARAMETER num_ctx 1\nPARAMETER num_ctx 8192\nPARAMETER stop a\nPARAMETER stop b\nPARAMETER mirostat x\n"
        "PARAMETER use_mmap F\nPARAMETER top_p .5\n"
    )
    spec = spec_of(parse(text), folder)
    assert spec.model_paths == (folder / "a.gguf", folder / "mmproj.gguf")
    assert (spec.adapter, spec.drafts) == (folder / "lora.gguf", (folder / "draft.gguf",))
    assert (spec.template, spec.system, spec.licenses) == ("t", "two", ("x", "y"))
    assert spec.messages == (Message("user", "hi: you"),)
    assert (spec.renderer, spec.parser, spec.requires, spec.base) == ("r", "p", "0.30", None)
    assert spec.parameters == {"num_ctx": 8192, "stop": ("a", "b"), "use_mmap": False, "top_p": 0.5}


def test_a_from_without_a_file_is_the_name_of_a_model(folder: Path) -> None:
    spec = spec_of(parse("FROM llama3.2:3b\n"), folder)
    assert (spec.base, spec.model_paths) == ("llama3.2:3b", ())


REFUSED = {
    "an unknown parameter": ("PARAMETER repetition_penalty 1", "line 2: unknown parameter 'repetition_penalty'"),
    "a capital": ("PARAMETER Temperature 1", "line 2: unknown parameter 'Temperature'"),
    "no name": ("PARAMETER  top_k 1", "line 2: unknown parameter ''"),
    "a word for a number": ("PARAMETER temperature warm", "line 2: temperature must be a number, not 'warm'"),
    "a fraction for an integer": ("PARAMETER num_ctx 8192.0", "line 2: num_ctx must be an integer, not '8192.0'"),
    "a missing adapter": ("ADAPTER nowhere.gguf", "line 2: there is no file .*nowhere"),
    "a missing draft": ("DRAFT nowhere.gguf", "line 2: there is no file .*nowhere"),
    "a draft that is the model": ("DRAFT a.gguf", "DRAFT and FROM name the same file"),
    "no version": ("REQUIRES new", "line 2: REQUIRES needs a version"),
}


@pytest.mark.parametrize(("line", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses_with_the_line(folder: Path, line: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        spec_of(parse(f"FROM a.gguf\n{line}\n"), folder)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("repetition_penalty", "write repeat_penalty"),
        ("max_tokens", "write num_predict"),
        ("n_gpu_layers", "write num_gpu"),
        ("Temperature", "write temperature"),
        ("temprature", "write temperature"),
        ("kv_cache_type", "a setting of the server: OLLAMA_KV_CACHE_TYPE"),
        ("xyzzy", ""),
    ],
)
def test_says_what_was_meant(name: str, advice: str) -> None:
    assert instead_of(name).endswith(advice)
    assert bool(instead_of(name)) == bool(advice)


def test_paths_are_taken_as_ollama_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expand("/x/../y", tmp_path) == Path("/y")
    assert expand("../m.gguf", tmp_path / "sub") == tmp_path / "m.gguf"
    assert expand("~/m.gguf", tmp_path) == Path("/home/me/m.gguf")
    with pytest.raises(BadInput, match="nobody's home is ~no-such-user"):
        expand("~no-such-user/m", tmp_path)


NUMBERS = (
    *(
        "0",
        "1",
        "-1",
        "+1",
        "007",
        "1.5",
        ".5",
        "5.",
        "1e3",
        "1E-3",
        "-0",
        "1e39",
        "3.4028235e38",
        "3.4028236e38",
        "1e-60",
    ),
    *(
        "",
        " 1",
        "1 ",
        "1_000",
        "0x10",
        "0x1p-2",
        "0x_1p4",
        "0x1.8p1",
        "0x.8p0",
        "0xp1",
        "0x1",
        "1e",
        "e5",
        ".",
        "+",
        "--1",
    ),
    *(
        "true",
        "True",
        "TRUE",
        "t",
        "yes",
        "on",
        "tRUE",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
    ),
    *("1.0", "٣", "½", "1,5", "1f", "abc", "0b1", "1e400", "-1e400", "0x1_p1", "0x1p1_0"),
)


@pytest.mark.go
def test_parameters_are_typed_as_ollamas_own_do(judge: Judge) -> None:
    rng = random.Random(1)
    drawn = ["".join(rng.choice("0123456789.eE+-xXpP_aFn") for _ in range(rng.randrange(1, 7))) for _ in range(1500)]
    asked = [(name, value) for name in (*PARAMETERS, "nope", "") for value in (*NUMBERS, *drawn[:60])]
    asked += [(name, value) for name in ("temperature", "num_ctx", "use_mmap") for value in drawn]
    answers = judge.ask({"op": "parameter", "name": n, "value": v} for n, v in asked)
    for (name, value), answer in zip(asked, answers, strict=True):
        try:
            ours = typed(name, value)
        except BadInput:
            assert answer.get("error"), (name, value, answer)
            continue
        assert not answer.get("error"), (name, value, answer)
        theirs = answer.get("value", ours)
        if name == "stop":
            theirs = theirs[0] if isinstance(theirs, list) else theirs
        if isinstance(ours, float):
            ours = struct.unpack("<f", struct.pack("<f", ours))[0]
            assert math.isclose(ours, theirs, rel_tol=1e-6), (name, value, answer)
        else:
            assert ours == theirs, (name, value, answer)


@pytest.mark.go
def test_the_request_is_the_one_that_ollama_create_sends(judge: Judge, folder: Path) -> None:
    lines = (
        *(
            "FROM mmproj.gguf",
            f"FROM {folder}/a.gguf",
            "FROM llama3.2",
            "ADAPTER lora.gguf",
            "DRAFT draft.gguf",
            "DRAFT a.gguf",
        ),
        *("SYSTEM x", "SYSTEM ", "TEMPLATE t", "LICENSE l", "LICENSE m", "MESSAGE user hi: a", "MESSAGE assistant b"),
        *(
            "RENDERER r",
            "PARSER p",
            "REQUIRES 0.30.0",
            "REQUIRES v1.2.3-rc.1+b.7",
            "REQUIRES 1.2.3-01",
            "REQUIRES 01.2",
            "REQUIRES 1",
        ),
        *(
            "REQUIRES 1.2-rc",
            "REQUIRES 1.2.3-",
            "REQUIRES vv1",
            "PARAMETER num_ctx 4096",
            "PARAMETER num_ctx 1.5",
            "PARAMETER stop a",
        ),
        *(
            "PARAMETER stop b",
            "PARAMETER temperature 0.5",
            "PARAMETER mirostat 1",
            "PARAMETER low_vram x",
            "PARAMETER use_mmap true",
        ),
        *("ADAPTER gone.gguf", "PARAMETER main_gpu 1", "PARAMETER nope 1"),
    )
    rng = random.Random(2)
    texts = [
        "\n".join(["FROM a.gguf", *(rng.choice(lines) for _ in range(rng.randrange(5)))]) + "\n" for _ in range(400)
    ] + [f"FROM a.gguf\n{line}\n" for line in lines]
    for text, answer in zip(texts, judge.requests(texts, folder), strict=True):
        try:
            spec = spec_of(parse(text), folder)
        except BadInput:
            assert answer.get("error"), (text, answer)
            continue
        theirs = answer["request"]
        assert sorted(theirs.get("files") or {}) == sorted({str(p) for p in spec.model_paths}), text
        assert list(theirs.get("adapters") or {}) == ([str(spec.adapter)] if spec.adapter else []), text
        assert sorted(theirs.get("draft_files") or {}) == sorted({str(p) for p in spec.drafts}), text
        assert theirs.get("from") == spec.base, text
        for name in ("template", "system", "renderer", "parser", "requires"):
            assert (theirs.get(name) or None) == getattr(spec, name), (text, name)
        assert tuple(theirs.get("license") or ()) == spec.licenses, text
        assert [(m["role"], m["content"]) for m in theirs.get("messages") or ()] == [
            (m.role, m.content) for m in spec.messages
        ]
        ours = {k: list(v) if k == "stop" else v for k, v in spec.parameters.items()}
        assert (theirs.get("parameters") or {}) == ours, text


def test_no_parameter_is_both_known_and_deprecated() -> None:
    assert not set(PARAMETERS) & set(DEPRECATED)
    assert os.path.isabs(expand("x", Path("relative")))
