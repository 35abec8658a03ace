"""qwenops try on a real Ollama: pages to models, side by side; what cannot be shown fails alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from qwenops.errors import BadInput
from qwenops.ollama.register import register
from qwenops.ollama.types import Spec
from qwenops.result import Result
from qwenops.setup.trying import Page, split_given, try_result
from tests.ollama.support import runtime_of
from tests.support.cli import qwenops
from tests.support.server import OllamaServer
from tests.support.tiny import TinyModel


def page(path: Path) -> Path:
    image = Image.new("RGB", (320, 160), "white")
    ImageDraw.Draw(image).text((20, 20), "MOKALU 314", fill="black")
    image.save(path)
    return path


@pytest.mark.parametrize(
    ("given", "files", "prompt"),
    [
        (("a.png",), ["a.png"], None),
        (("a.png", "Read it."), ["a.png"], "Read it."),
        (("a.png", "b.png"), ["a.png", "b.png"], None),
        ((".", "what is " + "x" * 5000), ["."], "what is " + "x" * 5000),
    ],
)
def test_the_last_thing_given_is_the_prompt_where_it_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], files: list[str], prompt: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        page(tmp_path / name)
    assert split_given(given) == ([Path(f) for f in files], prompt)


@pytest.mark.parametrize("given", [("none.png",), ("a.png", "none.png"), ("Read it.",), ("a.png", "b.heic")])
def test_a_picture_that_is_not_there_is_no_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    page(tmp_path / "a.png")
    with pytest.raises(BadInput, match="no such file"):
        split_given(given)


def tried(files: Sequence[Path], names: Sequence[str] = ("eyes",), task: str = "ocr") -> Result:
    return try_result(names, files, None, task=task, num_predict=8, think=None)


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
    sizes = [Image.open(io.BytesIO(Page(path, number).data())).size for number in (1, 2)]
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
    assert "nobody" in answer.out
    assert "phone.jpg: stored turned" in answer.err
