"""qwenops try on a real Ollama: pages to models, side by side; what cannot be shown fails alone."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from qwenops.errors import BadInput
from qwenops.ollama.register import register
from qwenops.ollama.types import Spec
from qwenops.report.terminal import render
from qwenops.result import Result
from qwenops.setup.pages import pages_in
from qwenops.setup.trying import TryOptions, split_asked, summary, try_result
from tests.ollama.support import runtime_of
from tests.support.cli import qwenops
from tests.support.server import OllamaServer
from tests.support.tiny import TinyModel, talker


def page(path: Path) -> Path:
    image = Image.new("RGB", (320, 160), "white")
    ImageDraw.Draw(image).text((20, 20), "MOKALU 314", fill="black")
    image.save(path)
    return path


@pytest.mark.parametrize(
    ("names", "given", "on", "asked"),
    [
        ("a", ("a.png",), (), (["a"], ["a.png"], None)),
        ("a", ("a.png", "Read it."), (), (["a"], ["a.png"], "Read it.")),
        ("a", ("a.png", "b.png"), (), (["a"], ["a.png", "b.png"], None)),
        ("a,b, a", ("a.png",), (), (["a", "b"], ["a.png"], None)),
        ("a", (".", "what is " + "x" * 5000), (), (["a"], ["."], "what is " + "x" * 5000)),
        ("a", ("b", "c,d"), ("a.png", "b.png"), (["a", "b", "c", "d"], ["a.png", "b.png"], None)),
        ("a", ("b", "Read it."), (".",), (["a", "b"], ["."], "Read it.")),
        ("a", (), ("a.png",), (["a"], ["a.png"], None)),
    ],
)
def test_models_files_and_prompt_are_told_apart(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: str,
    given: tuple[str, ...],
    on: tuple[str, ...],
    asked: tuple[list[str], list[str], str | None],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        page(tmp_path / name)
    models, files, prompt = asked
    assert split_asked(names, given, [Path(p) for p in on], None) == (models, [Path(f) for f in files], prompt)


def test_a_prompt_by_its_option_leaves_every_word_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page(tmp_path / "a.png")
    assert split_asked("a", ("a.png",), (), "Read.") == (["a"], [Path("a.png")], "Read.")
    with pytest.raises(BadInput, match="no such file: Read it"):
        split_asked("a", ("a.png", "Read it."), (), "Read.")


@pytest.mark.parametrize("given", [("none.png",), ("a.png", "none.png"), ("Read it.",), ("a.png", "b.heic"), ()])
def test_a_picture_that_is_not_there_is_no_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    page(tmp_path / "a.png")
    with pytest.raises(BadInput, match="no such file" if given else "no picture was given"):
        split_asked("a", given, (), None)


def tried(files: Sequence[Path], names: Sequence[str] = ("eyes",), task: str = "ocr") -> Result:
    return try_result(names, files, None, TryOptions(task=task, num_predict=8))


def pdf_of(path: Path, sizes: Sequence[tuple[int, int]], password: str = "") -> Path:
    """A PDF of empty pages, in points; with a password it says that it is encrypted by one that nobody gave."""
    rows = [b"<< /Type /Catalog /Pages 2 0 R >>"]
    kids = " ".join(f"{n + 3} 0 R" for n in range(len(sizes)))
    rows.append(f"<< /Type /Pages /Count {len(sizes)} /Kids [{kids}] >>".encode())
    rows += [f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {w} {h}] >>".encode() for w, h in sizes]
    encrypt = f"<< /Filter /Standard /V 1 /R 2 /P -4 /O <{'11' * 32}> /U <{'22' * 32}> >>" if password else ""
    more = f" /Encrypt {encrypt} /ID [<{'33' * 16}> <{'33' * 16}>]" if encrypt else ""
    data, places = bytearray(b"%PDF-1.4\n"), []
    for number, row in enumerate(rows, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, row)
    start = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(rows) + 1)
    data += b"".join(b"%010d 00000 n \n" % place for place in places)
    data += f"trailer << /Size {len(rows) + 1} /Root 1 0 R{more} >>\nstartxref\n{start}\n%%EOF\n".encode()
    path.write_bytes(data)
    return path


def test_what_holds_no_page_is_refused_before_a_server_is_asked(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    cases: dict[str, Callable[[], Result]] = {
        "has no picture": lambda: tried([tmp_path / "empty"]),
        "no model was named": lambda: tried([page(tmp_path / "a.png")], names=()),
        "there is no task": lambda: tried([page(tmp_path / "a.png")], task="nonsense"),
        "is a file: answers go": lambda: try_result(
            ("eyes",), [page(tmp_path / "a.png")], None, TryOptions(out=tmp_path / "a.png")
        ),
        "password": lambda: tried([pdf_of(tmp_path / "locked.pdf", [(100, 100)], password="x")]),
        "is not a PDF": lambda: tried([page(tmp_path / "a.png").rename(tmp_path / "b.pdf")]),
    }
    for said, act in cases.items():
        with pytest.raises(BadInput, match=said):
            act()


def test_a_book_is_refused_by_its_count_without_drawing_a_page(tmp_path: Path) -> None:
    book = pdf_of(tmp_path / "book.pdf", [(14400, 14400)] * 5000)
    with pytest.raises(BadInput, match=r"5000 pages up to book\.pdf, and 200 are the most"):
        tried([book])


def test_a_poster_is_drawn_in_bounds_and_a_page_at_200_dots_an_inch(tmp_path: Path) -> None:
    path = pdf_of(tmp_path / "two.pdf", [(595, 842), (14400, 7200)])
    pages, _ = pages_in([path])
    sizes = [Image.open(io.BytesIO(one.data())).size for one in pages]
    assert sizes == [(one.width, one.height) for one in pages]
    assert sizes[0] == (1653, 2339)
    assert 19_000_000 < sizes[1][0] * sizes[1][1] < 20_100_000


@pytest.mark.server
@pytest.mark.slow
def test_pages_and_models_side_by_side(
    start_server: Callable[..., OllamaServer], tiny_qwen35: TinyModel, tmp_path: Path
) -> None:
    server = start_server(gpu=False)
    spec = Spec(shards=(tiny_qwen35.model,), projectors=(tiny_qwen35.projector,), parameters={"num_ctx": 2048})
    for name in ("one", "two"):
        register(spec, name, runtime_of(server))
    folder = tmp_path / "pages"
    folder.mkdir()
    Image.open(page(folder / "1.png")).save(folder / "2.pdf")
    (folder / "notes.txt").write_text("not a page")
    env: Mapping[str, str] = {
        "OLLAMA_HOST": server.url,
        "OLLAMA_MODELS": str(server.store),
        "QWENOPS_HOME": str(tmp_path / "home"),
    }
    args = ("try", "one,two", folder, "Read it.", "--num-predict", 8, "--no-think")
    answer = qwenops(*args, "--json", env=env)
    assert answer.code in (0, 1), answer.err
    runs = answer.data["runs"]
    assert [(r["name"], Path(r["file"]).name, r["page"]) for r in runs] == [
        ("one", "1.png", None),
        ("one", "2.pdf", 1),
        ("two", "1.png", None),
        ("two", "2.pdf", 1),
    ]
    assert all(r["prompt"] == "Read it." and r["error"] is None for r in runs)
    # a model of random weights writes until it is stopped: that is no success
    assert answer.code == (0 if all(r["ok"] for r in runs) else 1)
    assert all(not r["ok"] for r in runs if r["cut"])
    (folder / "bad.png").write_text("hello")
    shown = qwenops(*args, env=env)
    assert shown.code == 1
    assert "bad.png is not a picture" in shown.err
    assert "1.png" in shown.out


@pytest.mark.server
@pytest.mark.slow
def test_a_model_that_is_not_there_fails_by_name(start_server: Callable[..., OllamaServer], tmp_path: Path) -> None:
    server = start_server(gpu=False)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(page(tmp_path / "a.png")).save(tmp_path / "phone.jpg", exif=exif)
    answer = qwenops(
        "try", "nobody", tmp_path / "phone.jpg", env={"OLLAMA_HOST": server.url, "QWENOPS_HOME": str(tmp_path / "h")}
    )
    assert answer.code == 1
    assert "Ollama has no model nobody" in answer.out
    assert "phone.jpg: stored turned" in answer.err


def run_of(**changes: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": "eyes",
        "file": "pages/1.png",
        "page": None,
        "picture_tokens": 92,
        "prompt_tokens": 100,
        "tokens": 10,
        "text": "MOKALU",
        "thinking": "",
        "load_seconds": 3.0,
        "prompt_seconds": 1.0,
        "generate_seconds": 2.0,
        "tokens_per_second": 5.0,
        "num_ctx": 2048,
        "saved": None,
        "do": [],
        "error": None,
        "ok": True,
        **dict.fromkeys(("empty", "looped", "cut", "context_full"), False),
        "schema_problem": None,
    }
    return {**told, **changes}


def test_a_summary_counts_what_went_wrong_and_leaves_the_load_out_of_the_seconds() -> None:
    runs = [
        run_of(),
        run_of(tokens=40, generate_seconds=5.0, cut=True, looped=True, ok=False),
        run_of(tokens=0, generate_seconds=0.0, text="", empty=True, ok=False),
        run_of(schema_problem="not JSON", ok=False),
        {"name": "eyes", "error": "too large", "ok": False},
    ]
    assert summary("eyes", runs) == {
        "name": "eyes",
        "pages": 5,
        "ok": 1,
        "empty": 1,
        "looped": 1,
        "cut": 1,
        "refused": 1,
        "not_of_schema": 1,
        "prompt_tokens": 400,
        "tokens": 60,
        "load_seconds": 3.0,
        "seconds_per_page": 3.25,
        "tokens_per_second": 6.7,
    }
    nothing = summary("eyes", [])
    assert (nothing["pages"], nothing["seconds_per_page"], nothing["tokens_per_second"]) == (0, None, None)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "MOKALU"),
        ({"text": "a\x1b[31mb"}, "a [31mb"),
        ({"saved": "out/eyes/1.png.txt"}, "→ out/eyes/1.png.txt"),
        ({"cut": True}, "(cut off after 10 tokens: --num-predict)"),
        ({"cut": True, "context_full": True}, "(cut off after 10 tokens: the context of 2048 is full)"),
        ({"cut": True, "looped": True}, "(in a loop after 10 tokens)"),
        ({"looped": True, "tokens": 0}, "(in a loop: Ollama broke it off)"),
        ({"text": "", "empty": True}, "(nothing)"),
        ({"text": "", "empty": True, "thinking": "Hmm."}, "(nothing but 4 characters of thought: --no-think)"),
        ({"text": "", "empty": True, "thinking": "Hmm.", "cut": True}, "(still thinking after 10 tokens: --no-think,"),
        ({"schema_problem": "not JSON"}, "(not of the schema: not JSON)"),
        ({"error": "too large", "do": ["qwenops update eyes"]}, "failed: too large\n  qwenops update eyes"),
    ],
)
def test_an_answer_says_what_is_wrong_with_it(
    changes: dict[str, Any], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(**changes)
    data = {"models": ["eyes"], "runs": [run], "summary": [], "schema_file": None}
    render(Result("qwenops.try/1", data), width=60)
    assert shown in capsys.readouterr().out


@pytest.fixture
def eyes(start_server: Callable[..., OllamaServer], tiny_qwen35: TinyModel, tmp_path: Path) -> Eyes:
    server = start_server(gpu=False)
    spec = Spec(shards=(tiny_qwen35.model,), projectors=(tiny_qwen35.projector,), parameters={"num_ctx": 4096})
    register(spec, "one", runtime_of(server))
    other = dict(spec.parameters) | {"num_ctx": 2048}
    register(dataclasses.replace(spec, parameters=other), "two", runtime_of(server))
    folder = tmp_path / "pages"
    folder.mkdir()
    page(folder / "1.png")
    page(folder / "2.png")
    home = str(tmp_path / "home")
    return Eyes(server, folder, {"OLLAMA_HOST": server.url, "OLLAMA_MODELS": str(server.store), "QWENOPS_HOME": home})


@dataclasses.dataclass(frozen=True)
class Eyes:
    server: OllamaServer
    folder: Path
    env: Mapping[str, str]


@pytest.mark.server
@pytest.mark.slow
def test_models_take_turns_and_leave_their_answers_in_files(eyes: Eyes, tmp_path: Path) -> None:
    out = tmp_path / "answers"
    Image.new("RGB", (1600, 1600), "white").save(eyes.folder / "large.png")
    answer = qwenops("try", "one", "two", "Read it.", "--on", eyes.folder, "--out", out, "--json", env=eyes.env)
    assert answer.code == 1, answer.err
    one, two = answer.data["summary"]
    assert (one["pages"], one["ok"], one["refused"]) == (3, 3, 0)
    assert one["load_seconds"] > 0
    # 2502 tokens do not go into 2048, and the server is not asked
    assert (two["pages"], two["ok"], two["refused"]) == (3, 2, 1)
    large = answer.data["runs"][-1]
    assert large["error"] == "large.png takes 2502 tokens and two has a context of 2048: it was not sent"
    assert large["do"][0].startswith("qwenops update two --for ocr")
    told = [run for run in answer.data["runs"] if run["error"] is None]
    assert all(run["prompt_tokens"] > run["picture_tokens"] > 0 and run["num_ctx"] for run in told)
    assert all(Path(run["saved"]).read_text() == run["text"].strip() + "\n" for run in told)
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.txt")) == [
        *(f"one/{name}.png.txt" for name in ("1", "2", "large")),
        *(f"two/{name}.png.txt" for name in ("1", "2")),
    ]
    assert eyes.server.log().count('msg="starting llama-server"') == 2


@pytest.mark.server
@pytest.mark.slow
def test_an_answer_by_a_schema_is_json_of_that_schema(eyes: Eyes, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "required": ["paid"], "properties": {"paid": {"type": "boolean"}}}')
    args = ("try", "one", eyes.folder / "1.png", "Read it.", "--num-predict", 400, "--json")
    answer = qwenops(*args, "--schema", schema, env=eyes.env)
    (run,) = answer.data["runs"]
    assert run["error"] is None
    # a random model may write blanks until it is stopped, which the grammar allows; what ended is of the schema
    assert run["cut"] or isinstance(json.loads(run["text"])["paid"], bool)
    assert answer.data["summary"][0]["not_of_schema"] == (run["schema_problem"] is not None)
    assert qwenops(*args, "--schema", tmp_path / "none.json", env=eyes.env).code == 2


@pytest.mark.server
@pytest.mark.slow
def test_a_model_in_a_loop_is_told_from_one_that_was_cut_off(eyes: Eyes, smollm: Path, tmp_path: Path) -> None:
    loops = talker("qwen35", tmp_path / "loops", "TEXT", "Ġleft", ends=False)
    spec = Spec(shards=(loops.model,), projectors=(loops.projector,), parameters={"num_ctx": 2048})
    register(spec, "loops", runtime_of(eyes.server))
    args = ("try", "loops", "one", "Read it.", "--on", eyes.folder / "1.png")
    broken_off = qwenops(*args, "--json", env=eyes.env)
    first, second = broken_off.data["summary"]
    assert (broken_off.code, first["looped"], second["looped"]) == (1, 1, 0)
    assert broken_off.data["runs"][0]["text"].count("left") > 30
    cut = qwenops(*args, "--num-predict", 3, env=eyes.env)
    assert cut.code == 1
    assert "(cut off after 3 tokens: --num-predict)" in cut.out
    assert "looped" not in cut.out


@pytest.mark.server
@pytest.mark.slow
def test_stopped_by_hand_it_prints_and_keeps_what_is_finished(eyes: Eyes, tmp_path: Path) -> None:
    for number in range(60):
        page(eyes.folder / f"more-{number:02}.png")
    out = tmp_path / "answers"
    command = [sys.executable, "-m", "qwenops", "try", "one", str(eyes.folder), "Read it.", "--out", str(out), "--json"]
    running = subprocess.Popen(
        command, env={**os.environ, **eyes.env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while len(list(out.rglob("*.txt"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    said, notes = running.communicate(timeout=60)
    assert running.returncode == 130, notes
    data = json.loads(said)
    assert data["stopped"]
    assert 2 <= len(data["runs"]) < 62
    assert data["summary"][0]["pages"] == len(data["runs"]) == len(list(out.rglob("*.txt")))
    assert "answers were finished" in data["notes"][-1]
