"""The words in pictures: planted faults are caught, right ones pass, the best of several is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from qwenops.bench.reading.engines.types import Failed, Heard, OnWords
from qwenops.bench.reading.types import Answer, Asking, Question
from qwenops.errors import BadInput
from qwenops.image.text_check import Fault, best_of, check_texts, texts_of
from qwenops.model.types import Model
from qwenops.ollama.register import register
from qwenops.ollama.types import Spec
from qwenops.report.terminal import render
from qwenops.result import Result
from qwenops.setup.image_texts import _told, best_picture, read_back
from tests.ollama.support import runtime_of
from tests.support.cli import qwenops
from tests.support.server import OllamaServer
from tests.support.tiny import talker

TWO = 'A cafe. The sign above the door reads "Fresh Bread Daily" and the board below says "Soup 4.50".'


def verdicts(texts: Sequence[str], read: str) -> list[tuple[str, tuple[Fault, ...]]]:
    return [(one.verdict, one.faults) for one in check_texts(texts, read).texts]


@pytest.mark.parametrize(
    ("text", "read", "verdict", "faults"),
    [
        ("Fresh Bread Daily", "Fresh Bread Daily", "right", ()),
        ("Fresh Bread Daily", "Fresh Broad Daily", "wrong", (Fault("wrong word", "Bread", "Broad"),)),
        ("Fresh Bread Daily", "Fresh Daily", "wrong", (Fault("missing word", "Bread", ""),)),
        ("Fresh Bread Daily", "Fresh Bread Bread Daily", "wrong", (Fault("extra word", "", "Bread"),)),
        (
            "Fresh Bread Daily",
            "Fresh Daily Bread",
            "wrong",
            (Fault("swapped order", "Fresh Bread Daily", "Fresh Daily Bread"),),
        ),
        ("HAPPY BIRTHDAY", "BIRTHDAY HAPPY", "wrong", (Fault("swapped order", "HAPPY BIRTHDAY", "BIRTHDAY HAPPY"),)),
        ("OPEN", "Open", "wrong", (Fault("case", "OPEN", "Open"),)),
        ("OPEN", "CLOSED", "missing", (Fault("missing word", "OPEN", ""),)),
        ("OPEN", "", "missing", (Fault("missing word", "OPEN", ""),)),
        ("Soup 4.50", "Soup 4.60", "wrong", (Fault("wrong word", "4.50", "4.60"),)),
        ("Café", "Cafe", "wrong", (Fault("wrong word", "Café", "Cafe"),)),
        ("欢迎光临", "欢迎光临", "right", ()),
        ("欢迎光临", "欢 迎\n光 临", "right", ()),
        ("欢迎光临", "欢迎光监", "wrong", (Fault("wrong word", "临", "监"),)),
        ("欢迎光临", "光临欢迎", "wrong", (Fault("swapped order", "欢迎光临", "光临欢迎"),)),
        ("欢迎光临", "欢迎临", "wrong", (Fault("missing word", "光", ""),)),
        # what a reader adds or writes in its own way is nobody's fault
        ("OPEN", 'The sign says "OPEN".', "right", ()),
        ("OPEN", "```\nOPEN\n```", "right", ()),
        ("OPEN", "<think>It says SHUT.</think>**OPEN**", "right", ()),
        ("It’s fine - today", "It's fine — today", "right", ()),
        ("Fresh Bread\nDaily", "Fresh\nBread Daily", "right", ()),
        ("e\u0301te\u0301", "été", "right", ()),
    ],
)
def test_one_text_is_held_against_what_was_read(text: str, read: str, verdict: str, faults: tuple[Fault, ...]) -> None:
    assert verdicts([text], read) == [(verdict, faults)]


@pytest.mark.parametrize(
    ("texts", "read", "expected", "extra"),
    [
        (("Soup 4.50", "Pie 3.20"), "Pie 3.20\nSoup 4.50", ["right", "right"], ()),
        (("Soup 4.50", "Pie 3.20"), "Soup 3.20\nPie 4.50", ["wrong", "wrong"], ()),
        (("SALE", "SALE"), "SALE SALE", ["right", "right"], ()),
        (("SALE", "SALE"), "SALE", ["right", "missing"], ()),
        (("SALE",), "SALE SALE today", ["right"], ("SALE today",)),
        (("SALE", "50 % off"), "SALE 50 % of until Monday", ["right", "wrong"], ("until Monday",)),
        (("Bread", "Fresh Bread Daily"), "Fresh Bread Daily Bread", ["right", "right"], ()),
        (("欢迎光临", "奇妙咖啡 2美元一杯"), "奇妙咖啡 2美元一杯\n欢迎光临", ["right", "right"], ()),
    ],
)
def test_several_texts_share_what_was_read_and_the_rest_is_told(
    texts: tuple[str, ...], read: str, expected: list[str], extra: tuple[str, ...]
) -> None:
    check = check_texts(texts, read)
    assert [one.verdict for one in check.texts] == expected
    assert check.extra == extra
    assert check.ok == all(verdict == "right" for verdict in expected)


def test_a_long_text_is_found_amid_others_with_its_one_wrong_word() -> None:
    text = " ".join(f"word{n}" for n in range(60))
    read = "before it " + text.replace("word31", "ward31") + " and after"
    (one,) = check_texts([text], read).texts
    assert one.faults == (Fault("wrong word", "word31", "ward31"),)
    assert one.cer == pytest.approx(1 / len(text))


@given(st.lists(st.lists(st.text("abcdeABC12é欢迎光临", min_size=1, max_size=6), min_size=1, max_size=4), max_size=4))
@settings(max_examples=150, deadline=None)
def test_what_is_read_as_it_was_asked_for_is_right_in_any_order_of_the_texts(words: list[list[str]]) -> None:
    texts = [" ".join(one) for one in words]
    check = check_texts(texts, "\n".join(sorted(texts)))
    if len(set(texts)) == len(texts):
        whole = sum(map(len, "".join(texts).split()))
        assert all(one.cer <= 1 for one in check.texts)
        assert sum(len(e) for e in check.extra) <= whole
    assert check_texts(texts[:1], texts[0] if texts else "").ok


def test_the_best_picture_has_the_fewest_wrong_texts_then_the_fewest_wrong_characters_then_the_least_else() -> None:
    texts = ("Fresh Bread", "Soup")
    reads = ["Fresh Broad Sop", "Fresh Bread Sup", "Fresh Bread Soup today", "Fresh Bread Soup"]
    checks = [check_texts(texts, read) for read in reads]
    assert [best_of(checks[:n]) for n in (1, 2, 3, 4)] == [0, 1, 2, 3]
    assert best_of([checks[3], checks[3]]) == 0


@pytest.mark.parametrize("prompt", ["A cat on a chair.", 'A sign reads "".', 'A sign reads " ".'])
def test_a_prompt_without_words_in_quotes_is_refused(prompt: str) -> None:
    with pytest.raises(BadInput, match="no words in quotes"):
        texts_of(prompt)


# ---- pictures


class KnownReader:
    """Reads each picture as what was drawn into it: the seam at which a vision model stands otherwise."""

    source = label = "known"
    model: Model | None = None
    engine: Mapping[str, Any] = {"name": "known"}
    identity: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.drawn: dict[bytes, str] = {}

    def draw(self, path: Path, *lines: str) -> Path:
        image = Image.new("RGB", (480, 60 * max(1, len(lines))), "white")
        for n, line in enumerate(lines):
            ImageDraw.Draw(image).text((20, 10 + 60 * n), line, fill="black", font=ImageFont.load_default(32))
        image.save(path)
        self.drawn[path.read_bytes()] = "\n".join(lines)
        return path

    def read(self, asking: Asking, questions: Sequence[Question], heard: Heard, on_words: OnWords) -> None:
        assert asking.temperature == 0
        for question in questions:
            words = self.drawn.get(question.pictures[0])
            told = Failed("the server refused it") if words is None else Answer(words, "stop", 100, 5, 1.0, 0.5)
            on_words(question, 5)
            heard(question, told)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (("Fresh Broad Daily", "Soup 4.50"), Fault("wrong word", "Bread", "Broad")),
        (("Fresh Daily", "Soup 4.50"), Fault("missing word", "Bread", "")),
        (("Bread Fresh Daily", "Soup 4.50"), Fault("swapped order", "Fresh Bread Daily", "Bread Fresh Daily")),
    ],
)
def test_a_planted_fault_in_a_made_picture_is_caught_and_a_right_one_passes(
    tmp_path: Path, lines: tuple[str, ...], fault: Fault, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = KnownReader()
    planted = reader.draw(tmp_path / "planted.png", *lines)
    right = reader.draw(tmp_path / "right.png", "Fresh Bread Daily", "Soup 4.50")
    pictures = read_back(reader, [planted, right], texts_of(TWO))
    assert [one.ok for one in pictures] == [False, True]
    assert pictures[0].check is not None
    assert pictures[0].check.texts[0].faults == (fault,)
    best = best_picture(pictures)
    assert best is not None
    assert best.file == right
    schema, data, notes, code = _told(pictures, texts_of(TWO), "known")
    assert (data["right"], data["best"], notes, code) == (1, str(right), (), 0)
    render(Result(schema, data))
    shown = capsys.readouterr().out
    assert fault.kind in shown
    assert "1 of 2 pictures have every text right" in shown


def test_when_no_picture_is_right_it_says_so_and_names_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = KnownReader()
    far = reader.draw(tmp_path / "far.png", "Nothing")
    near = reader.draw(tmp_path / "near.png", "Fresh Bread Daily", "Soup 4.60")
    unread = tmp_path / "unread.png"
    Image.new("RGB", (64, 64), "red").save(unread)
    (tmp_path / "no.png").write_text("no picture")
    pictures = read_back(reader, [far, near, unread, tmp_path / "no.png"], texts_of(TWO))
    schema, data, notes, code = _told(pictures, texts_of(TWO), "known")
    assert (data["right"], data["best"], code) == (0, str(near), 1)
    assert [one["error"] is None for one in data["pictures"]] == [True, True, False, False]
    assert len(notes) == 2
    render(Result(schema, data))
    assert f"no picture has every text right; {near} comes nearest" in " ".join(capsys.readouterr().out.split())


@pytest.mark.server
@pytest.mark.slow
def test_pictures_are_read_back_through_the_real_ollama(
    start_server: Callable[..., OllamaServer], smollm: Path, tmp_path: Path
) -> None:
    server = start_server(gpu=False)
    says = talker("qwen35", tmp_path / "says", "TEXT", "Ġleft")
    spec = Spec(shards=(says.model,), projectors=(says.projector,), parameters={"num_ctx": 2048})
    register(spec, "eyes", runtime_of(server))
    env = {"OLLAMA_HOST": server.url, "OLLAMA_MODELS": str(server.store), "QWENOPS_HOME": str(tmp_path / "home")}
    picture = KnownReader().draw(tmp_path / "sign.png", "TEXT left")
    args = ("image", "text-check", picture, "--by", "eyes", "--json")
    right = qwenops(*args, "--prompt", 'The sign above the door reads "TEXT left".', env=env)
    assert right.code == 0, right.err
    assert right.data["pictures"][0]["texts"][0]["verdict"] == "right"
    wrong = qwenops(*args, "--prompt", 'The sign above the door reads "TEXT right".', env=env)
    assert wrong.code == 1
    (text,) = wrong.data["pictures"][0]["texts"]
    assert text["faults"] == [{"kind": "wrong word", "wanted": "right", "read": "left"}]
    nobody = qwenops("image", "text-check", picture, "--by", "nobody", "--prompt", TWO, env=env)
    assert nobody.code == 1
    assert "Ollama has no model nobody" in nobody.err


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("none.png", "--prompt", TWO), 2, "no such file"),
        (("none.png", "--prompt", "A cat."), 2, "no words in quotes"),
        (("none.png",), 2, "give one prompt"),
    ],
)
def test_what_cannot_be_checked_is_told(args: tuple[str, ...], code: int, said: str) -> None:
    answer = qwenops("image", "text-check", *args, "--by", "eyes")
    assert (answer.code, said in answer.err) == (code, True), answer.err
