"""Wishes written out: what must be kept is known, what was lost or added is refused, nothing leaves this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from qwenops.errors import BadInput
from qwenops.image.catalogue import find
from qwenops.image.prompt import prompt_of
from qwenops.image.prompt_write import MOST_WORDS, again, complaints, kept_of, system_prompt
from qwenops.ollama.register import register
from qwenops.ollama.types import Spec
from qwenops.setup.image_writing import stays_here
from tests.ollama.support import runtime_of, store_alone
from tests.support.cli import qwenops
from tests.support.server import OllamaServer
from tests.support.tiny import TinyModel, talker


@pytest.mark.parametrize(
    ("wish", "kept"),
    [
        ("a cat on a chair", []),
        ("A cat on a chair. Soft light.", []),
        ('a card for Anna with "42 years!"', [("text", "42 years!"), ("name", "Anna")]),
        ("Anna sits on a chair", [("name", "Anna")]),
        ("Draw Anna Karenina in New York", [("name", "Anna Karenina"), ("name", "New York")]),
        ("a street in Rio de Janeiro with a VW bus", [("name", "Rio de Janeiro"), ("name", "VW")]),
        ("an advert for example.com and https://example.org/a?b=1.", None),
        ("write to me@example.com or @somebody, #sale", None),
        ("three foxes and 12 owls, 4.50 each, 50 % off", None),
        ("McDonald's at night", [("name", "McDonald")]),
        ("一位叫李华的老人在Qwen的展台前，招牌写着“欢迎”", [("text", "欢迎"), ("name", "Qwen")]),
        ("三只狐狸读《红楼梦》", [("number", "三只"), ("name", "《红楼梦》")]),
    ],
)
def test_what_must_be_kept_is_known(wish: str, kept: list[tuple[str, str]] | None) -> None:
    more = {
        "an advert for example.com and https://example.org/a?b=1.": [
            ("address", "https://example.org/a?b=1"),
            ("address", "example.com"),
        ],
        "write to me@example.com or @somebody, #sale": [
            ("address", "me@example.com"),
            ("address", "@somebody"),
            ("address", "#sale"),
        ],
        "three foxes and 12 owls, 4.50 each, 50 % off": [
            ("number", "12"),
            ("number", "4.50"),
            ("number", "50 %"),
            ("number", "three"),
        ],
    }
    assert [(one.kind, one.text) for one in kept_of(prompt_of(wish))] == (more[wish] if kept is None else kept)


CARD = 'a birthday card for Anna, "42 years!" in gold'
GOOD = (
    'A birthday card for Anna lies on a wooden table in warm evening light. At its centre stands "42 years!" in large '
    "gold letters, with small painted flowers around it, in the style of a watercolour."
)


@pytest.mark.parametrize(
    ("wish", "written"),
    [
        (CARD, GOOD),
        (CARD, "<think>The user wants a card.</think>" + GOOD),
        ("a cat on a chair", "A grey cat sleeps on a red chair by the window in soft light, as a photograph."),
        ("two foxes at example.com's stand", "Two foxes stand by a table of example.com in the snow, as a gouache."),
        (
            "a sign that says “OPEN”",
            'Above the door of a small cafe hangs a wooden sign that says "OPEN" in red letters.',
        ),
        (
            "咖啡店的招牌写着“欢迎光临”",
            "一家小咖啡店的门口挂着木制招牌，上方用红色楷体写着“欢迎光临”，清晨的阳光照在湿润的石板路上，写实摄影风格。",
        ),
        (
            "a sign in Chinese that says “欢迎”",
            'Above the door of a small shop hangs a red wooden sign that says "欢迎" in gold Chinese letters.',
        ),
    ],
)
def test_a_passage_that_keeps_everything_is_taken(wish: str, written: str) -> None:
    assert complaints(prompt_of(wish), written, find("2512")) == ()


@pytest.mark.parametrize(
    ("wish", "written", "said"),
    [
        (CARD, "", "There was no text"),
        (CARD, "<think>Hmm.", "There was no text"),
        (CARD, GOOD.replace("42 years!", "42 Years!"), 'The text "42 years!" must stand in it'),
        (CARD, GOOD.replace('"42 years!"', "42 years!"), 'The text "42 years!" must stand in it'),
        (CARD, GOOD.replace("Anna", "Anne"), "The name Anna must stand in it"),
        (
            CARD,
            GOOD.replace("42 years!", "42 years!”").replace('"42', "“42").replace('”"', "”"),
            "straight double quotes",
        ),
        (CARD, GOOD + ' Below it stands "Love".', "Nobody asked for the text 'Love'"),
        (CARD, GOOD + "\n- flowers", "one passage without line breaks"),
        (CARD, "Sure! " + GOOD, "without any words to the reader"),
        (CARD, "Rewritten prompt: " + GOOD, "without any words to the reader"),
        (CARD, GOOD + " more" * MOST_WORDS, f"at most {MOST_WORDS} words"),
        (CARD, 'Anna: "42 years!"', "must say more than the wish"),
        (
            CARD,
            "安娜的生日贺卡放在木桌上，中央写着“42 years!”，周围是小花，水彩画风格，光线温暖柔和，画面安静。",
            "in English",
        ),
        (CARD, GOOD.replace("warm", "(warm:1.2)"), "(warm:1.2): a weight"),
        ("咖啡店的招牌写着“欢迎光临”", "A cafe with a sign above the door that says “欢迎光临” in red.", "in Chinese"),
        (
            "12 foxes in the snow",
            "A dozen foxes, 120 pawprints and 1.12 metres of snow in soft evening light.",
            "number 12",
        ),
        ("three foxes in the snow", "A group of foxes stands in the deep snow in soft evening light.", "number three"),
        (
            "a poster of example.com",
            "A poster of example.community hangs on a brick wall in warm light.",
            "example.com",
        ),
        (
            "《红楼梦》的海报，一片雪景",
            "一张红楼梦的海报，远处是一片雪景，近处有一位古装女子站在梅树旁，水墨画风格。",
            "《红楼梦》",
        ),
    ],
)
def test_a_passage_that_lost_or_added_something_is_refused_with_the_reason(wish: str, written: str, said: str) -> None:
    found = complaints(prompt_of(wish), written, find("2512"))
    assert any(said in one for one in found), found
    assert all(f"- {one}" in again("en", found) for one in found[:12])


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_the_writer_is_told_is_of_the_wish_s_language(language: str) -> None:
    assert prompt_of(system_prompt(language)).language == language


def test_a_server_on_another_machine_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    runtime = replace(store_alone(tmp_path), place="remote", url="http://192.0.2.7:11434")
    with pytest.raises(BadInput, match="names another machine"):
        stays_here(runtime, "writer")


@pytest.mark.server
@pytest.mark.slow
def test_a_real_model_writes_or_is_refused_and_the_passage_alone_goes_to_stdout(
    start_server: Callable[..., OllamaServer], tiny_qwen35: TinyModel, tmp_path: Path
) -> None:
    server = start_server(gpu=False)
    runtime = runtime_of(server)
    parts = {"shards": (tiny_qwen35.model,), "projectors": (tiny_qwen35.projector,), "parameters": {"num_ctx": 2048}}
    register(Spec(**parts), "random", runtime)
    passage = "A red fox sits by the frozen river in soft morning light ."
    tokens = [word if n == 0 else f"Ġ{word}" for n, word in enumerate(passage.split())]
    says = talker("qwen35", tmp_path / "says", *tokens)
    register(Spec(shards=(says.model,), projectors=(says.projector,), parameters={"num_ctx": 2048}), "says", runtime)
    env = {"OLLAMA_HOST": server.url, "OLLAMA_MODELS": str(server.store), "QWENOPS_HOME": str(tmp_path / "home")}
    write = ("image", "prompt", "write")
    written = qwenops(*write, "a red fox by the river", "--by", "says", env=env)
    assert (written.code, written.out) == (0, passage + "\n"), written.err
    # it says the same whatever it is asked, so this wish is lost every time: told so, tried again, refused
    lost = qwenops(*write, 'a fox with a sign, "Zwei 17"', "--by", "says", "--tries", 2, "--json", env=env)
    assert lost.code == 1
    assert lost.data["written"] is None
    assert [one["complaints"] for one in lost.data["tries"]] == [
        ['The text "Zwei 17" must stand in it in quotation marks, to the letter.']
    ] * 2
    babble = qwenops(*write, CARD, "--by", "random", "--tries", 2, "--json", env=env)
    assert (babble.code, babble.data["written"]) == (1, None), babble.err
    assert all(one["complaints"] for one in babble.data["tries"])
    nobody = qwenops(*write, CARD, "--by", "nobody", env=env)
    assert (nobody.code, "Ollama has no model nobody" in nobody.err) == (1, True)


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("a cat",), 3, "Ollama"),
        (("x" * 5000,), 2, "is a prompt already"),
        ((), 2, "give one prompt"),
    ],
)
def test_what_cannot_be_written_is_told(args: tuple[str, ...], code: int, said: str) -> None:
    answer = qwenops("image", "prompt", "write", *args, "--by", "writer")
    assert (answer.code, said in answer.err) == (code, True), answer.err
