"""Both engines on small real vision models: pictures take the tokens that were planned, prompts are the same text."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from qwenops import history
from qwenops.bench.reading.cells import Cell, fill
from qwenops.bench.reading.engines.library import LibraryReader
from qwenops.bench.reading.engines.ollama import OllamaReader
from qwenops.bench.reading.engines.template import one_turn
from qwenops.bench.reading.engines.types import Failed, Reader
from qwenops.bench.reading.made import made_pages
from qwenops.bench.reading.types import Answer, Asking, Question
from qwenops.errors import BadInput, CheckFailed, ServerDown
from qwenops.model.read import read_model
from qwenops.model.types import Model
from qwenops.ollama.register import register
from qwenops.ollama.types import Spec
from qwenops.setup.reading import questions_of
from tests.ollama.support import runtime_of
from tests.support.cli import qwenops
from tests.support.server import OllamaServer
from tests.support.tiny import TinyModel, talker

SENTENCE = "A small random model."


def read_by(reader: Reader, asking: Asking, questions: Sequence[Question]) -> dict[str, Answer | Failed]:
    heard: dict[str, Answer | Failed] = {}
    reader.read(asking, questions, lambda q, a: heard.__setitem__(q.id, a), lambda *_: None)
    return heard


def model_of(tiny: TinyModel) -> Model:
    return read_model(tiny.model, tiny.projector)


@pytest.fixture
def questions() -> list[Question]:
    return questions_of(made_pages(3, 1, ["clean", "receipt", "fields"]).pages, None, "Read.")  # type: ignore[arg-type]


@pytest.mark.library
@pytest.mark.parametrize("family", ["qwen3vl", "qwen25vl", "qwen35"])
def test_the_library_reads_with_the_planned_tokens(
    request: pytest.FixtureRequest, family: str, questions: list[Question]
) -> None:
    reader = LibraryReader(model_of(request.getfixturevalue(f"tiny_{family}")), source=family, threads=1)
    asking = Asking(image_tokens=96, most_tokens=24)
    heard = read_by(reader, asking, questions)
    assert list(heard) == [q.id for q in questions]
    for question in questions:
        answer = heard[question.id]
        assert isinstance(answer, Answer), answer
        assert (answer.text, answer.ended) == (SENTENCE, "stop")
        assert answer.picture_tokens == reader.planned_tokens(asking, question)
        assert answer.prompt_tokens > (answer.picture_tokens or 0) + 2
        assert answer.encode_s is not None
        assert 0 < answer.encode_s < answer.prompt_s


@pytest.mark.library
def test_the_library_cuts_a_loop_and_stops_at_its_limit(tmp_path: Path, questions: list[Question]) -> None:
    tiny = talker("qwen3vl", tmp_path, "Ġthe", "Ġend", ends=False)
    reader = LibraryReader(model_of(tiny), source="talker", threads=1)
    (short,) = read_by(reader, Asking(image_tokens=32, most_tokens=40), questions[:1]).values()
    (long,) = read_by(reader, Asking(image_tokens=32, most_tokens=1000), questions[:1]).values()
    assert isinstance(short, Answer)
    assert isinstance(long, Answer)
    assert (short.ended, short.tokens) == ("length", 40)
    assert long.ended == "loop"
    assert 100 < long.tokens < 400


@pytest.mark.library
def test_what_cannot_look_says_so(tiny_qwen3vl: TinyModel, tiny_qwen25vl: TinyModel, smollm: Path) -> None:
    with pytest.raises(BadInput, match="has no projector"):
        LibraryReader(read_model(smollm), source="smollm", threads=1)
    other = LibraryReader(model_of(tiny_qwen3vl), source="x", threads=1)
    other.projector = model_of(tiny_qwen25vl).projector  # type: ignore[assignment]
    with pytest.raises(BadInput, match="is not the projector of"):
        read_by(other, Asking(image_tokens=32), [Question("q", "Read.", (b"",), ((8, 8),))])


@pytest.mark.library
def test_a_picture_that_the_library_cannot_decode_fails_alone(
    tiny_qwen3vl: TinyModel, questions: list[Question]
) -> None:
    reader = LibraryReader(model_of(tiny_qwen3vl), source="x", threads=1)
    broken = Question("broken", "Read.", (b"\x89PNG no picture",), ((64, 64),))
    heard = read_by(reader, Asking(image_tokens=32, most_tokens=8), [broken, questions[0]])
    assert heard["broken"] == Failed("the library cannot decode the picture")
    assert isinstance(heard[questions[0].id], Answer)


@pytest.mark.server
@pytest.mark.library
@pytest.mark.slow
def test_ollama_sees_the_same_prompt_as_the_library(
    start_server: Callable[..., OllamaServer], tiny_qwen35: TinyModel, tmp_path: Path, questions: list[Question]
) -> None:
    server = start_server(gpu=False, settings={"LLAMA_ARG_IMAGE_MAX_TOKENS": "96"})
    runtime = runtime_of(server)
    object.__setattr__(runtime, "environment", {"LLAMA_ARG_IMAGE_MAX_TOKENS": "96"})
    loops = talker("qwen35", tmp_path, "Ġthe", "Ġend", ends=False)
    for name, tiny in (("eyes", tiny_qwen35), ("looping", loops)):
        spec = Spec(shards=(tiny.model,), projectors=(tiny.projector,), parameters={"num_ctx": 4096})
        register(spec, name, runtime)
    asking = Asking(image_tokens=96, most_tokens=300)
    ollama = OllamaReader("eyes", runtime, model_of(tiny_qwen35))
    library = LibraryReader(model_of(tiny_qwen35), source="x", threads=1)
    there, here = read_by(ollama, asking, questions), read_by(library, asking, questions)
    for question in questions:
        theirs, ours = there[question.id], here[question.id]
        assert isinstance(theirs, Answer), theirs
        assert isinstance(ours, Answer), ours
        assert (theirs.text, theirs.ended) == (ours.text, ours.ended) == (SENTENCE, "stop")
        assert theirs.prompt_tokens == ours.prompt_tokens
        assert ollama.planned_tokens(asking, question) == (ours.picture_tokens or 0) + 2
    (looped,) = read_by(OllamaReader("looping", runtime, None), asking, questions[:1]).values()
    assert isinstance(looped, Answer)
    assert looped.ended == "loop"
    assert looped.prompt_tokens == there[questions[0].id].prompt_tokens  # type: ignore[union-attr]
    with pytest.raises(BadInput, match="image budget of this Ollama is 96"):
        read_by(ollama, Asking(image_tokens=64), questions[:1])
    with pytest.raises(CheckFailed, match="Ollama has no model nobody"):
        read_by(OllamaReader("nobody", runtime, None), Asking(), questions[:1])
    env = {"OLLAMA_HOST": server.url, "OLLAMA_MODELS": str(server.store)}
    asked = ("bench", "ocr", "eyes", "nobody", "--engine", "ollama", "--pages", 2, "--most-tokens", 16)
    told = qwenops(*asked, "--json", env=env)
    assert told.code == 1, told.err
    assert [row["status"] for row in told.data["results"]] == ["ok", "failed"]
    assert "nobody" in told.data["results"][1]["error"]
    assert told.data["results"][0]["answered"] == 2
    dying = Cell(OllamaReader("eyes", runtime, model_of(tiny_qwen35)), Asking(most_tokens=8))
    fill(dying, questions, lambda done, *_: server.stop() if done == 1 else None)
    assert dying.stopped is not None
    assert isinstance(dying.stopped, ServerDown)
    assert len(dying.answers) == 1


@pytest.mark.library
@pytest.mark.slow
def test_the_matrix_goes_on_past_a_bad_variant_and_after_a_kill(
    tmp_path: Path, tiny_qwen3vl: TinyModel, smollm: Path
) -> None:
    cut = tmp_path / "cut-F16.gguf"
    cut.write_bytes(tiny_qwen3vl.model.read_bytes()[:-100_000])
    asked = ["bench", "ocr", cut, tiny_qwen3vl.model, smollm, "--mmproj", tiny_qwen3vl.projector]
    asked += ["--image-tokens", 32, "--image-tokens", 48, "--pages", 4, "--most-tokens", 8, "--threads", 1, "--json"]
    command = [sys.executable, "-m", "qwenops", *map(str, asked)]
    with started(command) as child:
        _wait_for_answers(3)
        child.kill()
    told = qwenops(*asked)
    assert told.code == 1, told.err
    rows = told.data["results"]
    assert [row["status"] for row in rows] == ["failed", "failed", "ok", "ok", "failed", "failed"]
    assert rows[2]["kept"] >= 3
    assert [(row["answered"], row["image_tokens"]) for row in rows[2:4]] == [(4, 32), (4, 48)]
    assert (rows[2]["loops"], rows[2]["empty"]) == (0, 0)
    assert told.data["compared"][0]["same"] is True
    with history.open() as kept:
        outcomes = kept.results(kind="reading")
    assert {(row.test, row.unit) for row in outcomes} == {("ocr made s1", "page")}
    assert outcomes[-1].samples[0]["page"] == "clean-001"
    assert qwenops("history").code == 0
    shown = qwenops(*asked[:-1])
    assert shown.code == 1
    assert "score the same on each of 4 pages" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 110


@pytest.mark.library
def test_a_killed_child_fails_its_cell_and_the_next_one_goes_on(tiny_qwen3vl: TinyModel) -> None:
    asked = [
        "bench",
        "ocr",
        tiny_qwen3vl.model,
        "--pages",
        20,
        "--kind",
        "codes",
        "--most-tokens",
        4,
        "--threads",
        1,
        "--json",
    ]
    asked += ["--image-tokens", 32, "--image-tokens", 16]
    command = [sys.executable, "-m", "qwenops", *map(str, asked)]
    with started(command) as run:
        _wait_for_answers(1)
        (worker,) = (c for c in psutil.Process(run.pid).children() if "qwenops.worker" in c.cmdline())
        worker.kill()
        out, err = run.communicate(timeout=300)
    assert run.returncode == 1, err
    first, second = json.loads(out)["results"]
    assert (first["status"], second["status"]) == ("failed", "ok")
    assert "SIGKILL" in first["error"]
    assert "at codes-" in first["error"]
    assert 1 <= first["answered"] < 20 == second["answered"]


@pytest.mark.library
def test_ctrl_c_shows_what_is_finished(tiny_qwen3vl: TinyModel) -> None:
    asked = [
        "bench",
        "ocr",
        tiny_qwen3vl.model,
        "--pages",
        30,
        "--kind",
        "codes",
        "--image-tokens",
        32,
        "--threads",
        1,
        "--json",
    ]
    command = [sys.executable, "-m", "qwenops", *map(str, asked)]
    with started(command) as child:
        _wait_for_answers(2)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=300)
    assert child.returncode == 130, err
    told = json.loads(out)
    assert told["results"][0]["status"] == "stopped"
    assert 2 <= told["results"][0]["answered"] < 30
    assert any("goes on" in note for note in told["notes"])


def test_a_template_renders_one_turn_and_says_where_it_cannot() -> None:
    chatml = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is false %}<think>\n\n</think>\n\n"
        "{% endif %}{% endif %}"
    )
    told = one_turn(chatml, "Read.", "<M>", 2)
    assert told == "<|im_start|>user\n<M><M>Read.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    for broken in ("{% for %}", "{{ raise_exception('no') }}", "{{ messages[5].role }}"):
        with pytest.raises(BadInput, match="cannot be rendered"):
            one_turn(broken, "Read.", "<M>", 1)


@contextlib.contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A command under way, which does not outlive its test."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def _wait_for_answers(count: int) -> None:
    folder, end = Path(os.environ["QWENOPS_HOME"]) / "cache/reading", time.monotonic() + 300
    while sum(f.read_bytes().count(b"\n") for f in folder.glob("*.jsonl")) < count:
        assert time.monotonic() < end, f"no {count} answers in {folder}"
        time.sleep(0.02)
