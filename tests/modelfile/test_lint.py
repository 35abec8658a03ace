"""The linter: each mistake found by its code and line, and nothing found in a Modelfile that is right."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from qwenops.modelfile.lint import LintFacts, check
from qwenops.modelfile.lint_words import PARSERS, READ_IN, RENDERERS, newer
from qwenops.modelfile.types import Finding
from tests.model.make import model_file
from tests.modelfile.conftest import ORACLE, Judge

TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3-VL of 36 layers with its projector, one of another width, a text model, a split model, a LoRA."""
    at = tmp_path_factory.mktemp("models")
    model_file(
        at / "vl.gguf",
        "qwen3vl",
        qwen3vl__block_count=36,
        qwen3vl__context_length=262144,
        qwen3vl__embedding_length=4096,
        tokenizer__chat_template=TEMPLATE,
    )
    for name, width in (("mmproj.gguf", 4096), ("mmproj-other.gguf", 2048)):
        model_file(
            at / name,
            "clip",
            tensors=(("v.patch_embd.weight", (32, 4), 0),),
            general__type="mmproj",
            clip__projector_type="qwen3vl_merger",
            clip__vision__projection_dim=width,
        )
    model_file(at / "text.gguf", llama__block_count=30, llama__context_length=8192, tokenizer__chat_template=TEMPLATE)
    model_file(at / "bare.gguf", llama__block_count=30, llama__context_length=8192)
    for n in (1, 2):
        model_file(
            at / f"split-0000{n}-of-00002.gguf",
            tensors=((f"blk.{n}.weight", (32, 4), 0),),
            llama__block_count=30,
            split__no=n - 1,
            split__count=2,
            split__tensors__count=2,
        )
    (at / "lora.gguf").write_bytes(b"GGUF")
    (at / "broken.gguf").write_bytes(b"GGUF\x03")
    return at


def codes(found: tuple[Finding, ...]) -> list[tuple[int, str, str]]:
    return [(f.line, f.level, f.code) for f in found]


GOOD = """# right in every word
FROM vl.gguf
FROM mmproj.gguf
REQUIRES 0.30.0
RENDERER qwen3-vl-instruct
PARSER qwen3-vl-instruct
PARAMETER num_ctx 20480
PARAMETER num_gpu 37
PARAMETER num_predict 8192
PARAMETER temperature 0.7
PARAMETER stop a
PARAMETER stop b
LICENSE one
LICENSE two
SYSTEM \"\"\"
Say "x".
# not a comment
\"\"\"
MESSAGE user hi
# a last word: \u3000 in a comment is dropped with the comment
"""

VISION = "FROM vl.gguf\nFROM mmproj.gguf\nPARAMETER num_ctx 20480\n"
TEXT = "FROM text.gguf\nPARAMETER num_ctx 4096\n"

CASES: dict[str, tuple[str, list[tuple[int, str, str]]]] = {
    "all right": (GOOD, []),
    "a second FROM is right": (VISION, []),
    "the projector first is right too": ("FROM mmproj.gguf\nFROM vl.gguf\nPARAMETER num_ctx 20480\n", []),
    "a model by name": ("FROM llama3.2:3b\nPARAMETER num_ctx 4096\n", []),
    "a text model needs no num_ctx": ("FROM text.gguf\n", []),
    "not a Modelfile": ("FROM vl.gguf\nPARAM x 1\n", [(2, "error", "cannot-parse")]),
    "no FROM": ("SYSTEM x\n", [(0, "error", "cannot-parse")]),
    "open quotes": ('FROM vl.gguf\nSYSTEM "x\n', [(2, "error", "cannot-parse")]),
    "the name of others": (VISION + "PARAMETER repetition_penalty 1\n", [(4, "error", "unknown-parameter")]),
    "a capital": (VISION + "PARAMETER Top_k 1\n", [(4, "error", "unknown-parameter")]),
    "a setting of the server": (VISION + "PARAMETER kv_cache_type q8_0\n", [(4, "error", "unknown-parameter")]),
    "two spaces": (VISION + "PARAMETER  top_k 1\n", [(4, "error", "nameless-parameter")]),
    "a deprecated word": (VISION + "PARAMETER mirostat 2\n", [(4, "warning", "deprecated-parameter")]),
    "a word for a number": (VISION + "PARAMETER temperature warm\n", [(4, "error", "wrong-type")]),
    "a fraction": (VISION + "PARAMETER top_k 1.5\n", [(4, "error", "wrong-type")]),
    "a comment behind a value": (VISION + "PARAMETER top_k 20 # few\n", [(4, "error", "wrong-type")]),
    "above its range": (VISION + "PARAMETER top_p 95\n", [(4, "warning", "out-of-range")]),
    "below its range": (VISION + "PARAMETER temperature -1\n", [(4, "warning", "out-of-range")]),
    "said twice": (TEXT + "PARAMETER num_ctx 8192\n", [(2, "warning", "repeated")]),
    "two system prompts": (TEXT + "SYSTEM a\nSYSTEM b\n", [(3, "warning", "repeated")]),
    "a renderer nobody has": (
        VISION + "RENDERER qwen3-vl\nPARSER qwen3-vl-instruct\n",
        [(4, "error", "unknown-renderer")],
    ),
    "a parser nobody has": (VISION + "RENDERER qwen3.8\nPARSER qwen3.8\n", [(5, "error", "unknown-parser")]),
    "a renderer alone": (VISION + "RENDERER qwen3.5\n", [(4, "warning", "renderer-alone")]),
    "a parser alone": (VISION + "PARSER qwen3.5\n", [(4, "warning", "parser-alone")]),
    "a template that is never used": (
        VISION + "RENDERER qwen3.5\nPARSER qwen3.5\nTEMPLATE {{ .Prompt }}\n",
        [(6, "warning", "template-unused")],
    ),
    "a template over the file's own": (TEXT + "TEMPLATE {{ .Prompt }}\n", [(3, "warning", "template-hides-own")]),
    "no template at all": ("FROM bare.gguf\n", [(1, "warning", "no-chat-template")]),
    "no version": (VISION + "REQUIRES soon\n", [(4, "error", "wrong-version")]),
    "a character that is dropped": (VISION + "SYSTEM 第\u3000一\n", [(4, "error", "dropped-character")]),
    "one in a later line of a value": (VISION + 'SYSTEM "a\n# \u200d\nb"\n', [(5, "error", "dropped-character")]),
    "one in a comment": (VISION + "# 第\u3000一\n", []),
    "no file": ("FROM nowhere.gguf\n", [(1, "error", "missing-file")]),
    "no file by a path": ("FROM ./nowhere\n", [(1, "error", "missing-file")]),
    "nobody's home": ("FROM ~no-such-user/x.gguf\n", [(1, "error", "missing-file")]),
    "a broken file": ("FROM broken.gguf\n", [(1, "error", "bad-file")]),
    "a name beside a file": ("FROM text.gguf\nFROM llama3.2\n", [(2, "error", "name-beside-files")]),
    "one file twice": ("FROM text.gguf\nFROM ./text.gguf\n", [(2, "warning", "twice")]),
    "no adapter": (TEXT + "ADAPTER nowhere.gguf\n", [(3, "error", "missing-file")]),
    "no draft": (TEXT + "DRAFT nowhere.gguf\n", [(3, "error", "missing-file")]),
    "an adapter on a model that sees": (VISION + "ADAPTER lora.gguf\n", [(4, "warning", "adapter-with-vision")]),
    "an adapter on a text model": (TEXT + "ADAPTER lora.gguf\n", []),
    "a projector of another width": (
        "FROM vl.gguf\nFROM mmproj-other.gguf\nPARAMETER num_ctx 20480\n",
        [(2, "error", "projector-mismatch")],
    ),
    "a projector on another architecture": (
        "FROM text.gguf\nFROM mmproj.gguf\nPARAMETER num_ctx 8192\n",
        [(2, "error", "projector-mismatch")],
    ),
    "two projectors": (
        VISION + "FROM mmproj-other.gguf\n",
        [(4, "error", "projector-mismatch"), (4, "error", "two-projectors")],
    ),
    "a projector alone": (
        "FROM mmproj.gguf\nPARAMETER num_ctx 8192\n",
        [(1, "error", "projector-alone")],
    ),
    "a vision model without its projector": (
        "FROM vl.gguf\nPARAMETER num_ctx 8192\n",
        [(1, "warning", "no-projector")],
    ),
    "two text models": (TEXT + "FROM bare.gguf\n", [(3, "error", "two-models")]),
    "a part of a split model": (
        "FROM split-00001-of-00002.gguf\nTEMPLATE x\n",
        [(1, "error", "missing-shard")],
    ),
    "all parts": ("FROM split-00001-of-00002.gguf\nFROM split-00002-of-00002.gguf\nTEMPLATE x\n", []),
    "num_gpu that moves the projector": (VISION + "PARAMETER num_gpu 36\n", [(4, "error", "projector-on-cpu")]),
    "num_gpu of every layer": (VISION + "PARAMETER num_gpu 37\n", []),
    "num_gpu of more than every layer": (VISION + "PARAMETER num_gpu 999\n", []),
    "num_gpu left to Ollama": (VISION + "PARAMETER num_gpu -1\n", []),
    "no GPU": (VISION + "PARAMETER num_gpu 0\n", [(4, "warning", "cpu-only")]),
    "layers on the CPU": (TEXT + "PARAMETER num_gpu 20\n", [(3, "warning", "layers-on-cpu")]),
    "no num_ctx for a model that sees": ("FROM vl.gguf\nFROM mmproj.gguf\n", [(1, "error", "no-num-ctx")]),
    "4096 for an image of 4098": (
        "FROM vl.gguf\nFROM mmproj.gguf\nPARAMETER num_ctx 4096\n",
        [(3, "error", "num-ctx-too-small")],
    ),
    "4098 and no room for a word": (
        "FROM vl.gguf\nFROM mmproj.gguf\nPARAMETER num_ctx 4098\n",
        [(3, "warning", "num-ctx-tight")],
    ),
    "above the trained context": (
        "FROM text.gguf\nPARAMETER num_ctx 8193\n",
        [(2, "warning", "num-ctx-above-trained")],
    ),
    "an answer that fills the context": (
        TEXT + "PARAMETER num_predict 4096\n",
        [(3, "warning", "num-predict-fills-context")],
    ),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
def test_finds(folder: Path, text: str, expected: list[tuple[int, str, str]]) -> None:
    assert codes(check(text, base_dir=folder)) == expected


def test_says_what_to_write(folder: Path) -> None:
    text = VISION + "PARAMETER num_gpu 36\nPARAMETER repetition_penalty 1\nRENDERER qwen3-vl-instrukt\nPARSER qwen3.5\n"
    assert [f.do for f in check(text, base_dir=folder)] == [
        "write 37, or leave num_gpu away",
        "write repeat_penalty",
        "write qwen3-vl-instruct",
    ]


def test_makes_room_for_as_many_images_as_asked(folder: Path) -> None:
    facts = LintFacts(images=5)
    (found,) = check(VISION, base_dir=folder, facts=facts)
    assert found.message == "num_ctx 20480 is too small: 5 images of 4096 tokens and 2 markers are 20490"
    assert check(VISION, base_dir=folder, facts=LintFacts(images=5, image_tokens=2048)) == ()


def test_is_told_what_it_cannot_read(folder: Path) -> None:
    facts = LintFacts(layers=37, sees=True, trained_ctx=32768, has_chat_template=True)
    text = "FROM qwen3-vl:8b\nPARAMETER num_gpu 36\nPARAMETER num_ctx 4096\nTEMPLATE {{ .Prompt }}\n"
    assert codes(check(text, base_dir=folder, facts=facts)) == [
        (2, "error", "projector-on-cpu"),
        (3, "error", "num-ctx-too-small"),
        (4, "warning", "template-hides-own"),
    ]
    assert check(text, base_dir=folder) == ()


def test_knows_the_version_it_read_the_names_in(folder: Path) -> None:
    text = VISION + "REQUIRES 0.31.0\nRENDERER qwen4\nPARSER qwen4\n"
    old, new = (check(text, base_dir=folder, facts=LintFacts(ollama_version=v)) for v in ("0.30.9", "0.33.0-rc2"))
    assert codes(old) == [
        (4, "error", "ollama-too-old"),
        (5, "error", "unknown-renderer"),
        (6, "error", "unknown-parser"),
    ]
    assert codes(new) == [(5, "warning", "unknown-renderer"), (6, "warning", "unknown-parser")]


@pytest.mark.parametrize(
    ("version", "than", "expected"),
    [("0.33.0-rc2", "0.32.14", True), ("0.9.0", "0.30.0", False), ("v1", "0.99.99", True), ("0.30", "0.30.0", False)],
)
def test_orders_versions(version: str, than: str, expected: bool) -> None:
    assert newer(version, than) is expected


def test_reads_bytes_with_a_mark(folder: Path) -> None:
    assert check(b"\xef\xbb\xbf" + VISION.encode(), base_dir=folder) == ()
    assert check(("\ufeff" + VISION).encode("utf-16-le"), base_dir=folder) == ()


@pytest.mark.go
def test_ollama_has_every_renderer_and_parser_that_we_name(judge: Judge) -> None:
    asked = [("renderer", n) for n in (*RENDERERS, "nope")] + [("parser", n) for n in (*PARSERS, "nope")]
    answers = judge.ask({"op": op, "name": name} for op, name in asked)
    assert [a for a, q in zip(asked, answers, strict=True) if q.get("error")] == [
        ("renderer", "nope"),
        ("parser", "nope"),
    ]


@pytest.mark.go
def test_we_name_every_renderer_and_parser_that_ollama_has(judge: Judge) -> None:
    listing = ["go", "list", "-m", "-f", "{{.Version}} {{.Dir}}", "github.com/ollama/ollama"]
    done = subprocess.run(listing, cwd=ORACLE, capture_output=True, text=True, check=True)
    version, source = done.stdout.strip().split(" ", 1)
    assert version == f"v{READ_IN}"
    for file, ours in (("renderers/renderer.go", RENDERERS), ("parsers/parsers.go", PARSERS)):
        cases = re.findall(r"^\s*case (\".*\"):", (Path(source) / "model" / file).read_text(), re.MULTILINE)
        assert {n for case in cases for n in re.findall(r'"([^"]+)"', case)} == set(ours)
