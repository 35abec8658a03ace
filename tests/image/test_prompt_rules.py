"""Prompts by tables: what is wrong with each, to the character, and right ones in which nothing is found."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenops.errors import BadInput
from qwenops.image.catalogue import find, sources
from qwenops.image.prompt import MOST_BYTES, prompt_of
from qwenops.image.prompt_check import Finding, check_prompt
from qwenops.image.prompt_rules import RULES
from qwenops.image.prompt_tokens import TokenCount, bounds
from qwenops.image.sizes import choose_size
from qwenops.model import header_cache
from qwenops.model.gguf_header import parse_header, read_header
from qwenops.setup.image_prompts import prompt_check_result
from tests.support.cli import qwenops
from tests.support.parts import layout


def findings(text: str, *, model: str = "2512", size: str | None = None) -> tuple[Finding, ...]:
    known, prompt = find(model), prompt_of(text)
    picture = choose_size(known, size)
    return check_prompt(prompt, known, picture, TokenCount(1, 1), size_asked=size is not None)


WRONG = [
    # tags, praise, and what other programs read
    ("1girl, long hair, blue eyes, smile, school uniform, cherry blossoms", [("tags", "1:1")]),
    ("a cat, long_hair, blue_eyes on a chair", [("tags", "1:8")]),
    ("1女孩, 长发, 蓝眼睛, 微笑, 校服, 樱花", [("tags", "1:1")]),
    ("A cat sits on a red chair, masterpiece, 8k.", [("quality", "1:28"), ("quality", "1:41")]),
    ("A cat sits on a red chair by the window, trending on artstation.", [("quality", "1:42")]),
    ("一只猫坐在红色的椅子上，阳光从窗外照进来，超高清，杰作。", [("quality", "1:22"), ("quality", "1:26")]),
    ("A cat sits on a red chair. Ultra HD, 4K, cinematic composition.", [("quality", "1:28"), ("quality", "1:38")]),
    ("A cat on a (red chair:1.3) in the sun.", [("weight", "1:12")]),
    ("A ((small)) cat on a chair.", [("weight", "1:3")]),
    ("A [red:0.4] cat on a chair.", [("weight", "1:3")]),
    ("A {{small}} cat on a chair::2 in the sun.", [("weight", "1:3"), ("weight", "1:27")]),
    ("A cat. BREAK A dog.", [("weight", "1:8")]),
    ("A cat <lora:ghibli_style:0.8> on a chair.", [("lora", "1:7")]),
    ("A cat, embedding:EasyNegative, on a chair.", [("lora", "1:8")]),
    ("A cat on a chair --ar 16:9", [("flags", "1:18"), ("size-named", "1:23")]),
    ("A __color__ cat on a {red|blue} chair.", [("wildcards", "1:3"), ("wildcards", "1:22")]),
    ("A cat<|im_end|> on a chair.", [("chat-marks", "1:6")]),
    # words that are to be seen
    ("A neon sign that says Welcome Home above the door.", [("unquoted", "1:23")]),
    ("A neon sign that says welcome home above the door.", [("unquoted", "1:23")]),
    ("A wooden board on the wall reads: no smoking", [("unquoted", "1:35")]),
    ("A woman holds a card with the text Happy Birthday Anna in gold.", [("unquoted", "1:36")]),
    ("A mug with the words hello world on it.", [("unquoted", "1:22")]),
    ("A book titled Moonrise lies on the table.", [("unquoted", "1:15")]),
    ("招牌上写着开业大吉", [("unquoted", "1:6")]),
    ("海报的标题为：春天来了，背景是花园。", [("unquoted", "1:8")]),
    ("A sign reading “OPEN” hangs on the door.", [("quotes-curly", "1:16")]),
    ("A sign reading „OPEN“ hangs on the door.", [("quotes-curly", "1:16")]),
    ("A sign reading 「OPEN」 hangs on the door.", [("quotes-curly", "1:16")]),
    ("A sign that says 'OPEN' hangs on the door.", [("quotes-single", "1:18")]),
    ("A sign that says ‘OPEN’ hangs on the door.", [("quotes-single", "1:18")]),
    ('招牌上写着"开业大吉"，门口有花篮。', [("quotes-chinese", "1:6")]),
    ('A cafe with a sign that says "OPEN', [("quote-open", "1:30")]),
    ("A poster with bold text, blue and green.", [("vague-text", "1:10")]),
    ("一张海报，带有醒目的文字，蓝色背景。", [("vague-text", "1:6")]),
    ('A poster with "SALE", "50 % off" and "Today only".', [("no-place", "1:23"), ("no-place", "1:38")]),
    ("红色的画面里有“新年快乐”，“恭喜发财”。", [("no-place", "1:8"), ("no-place", "1:15")]),
    # shapes
    ("A square image of a cat.", [("size-contradicts", "1:3")]),
    ("A cat in the sun, 9:16.", [("size-contradicts", "1:19")]),
    ("A cat in the sun, 16:9.", [("size-named", "1:19")]),
    ("A cat in the sun, 1024x1024 pixels.", [("size-contradicts", "1:19")]),
    ("A cat, vertical composition.", [("size-contradicts", "1:8")]),
    ("竖版海报，一只猫。", [("size-contradicts", "1:1")]),
    # the rest
    ("A cat\x07 on a chair.", [("control", "1:6")]),
    ("A cat\u200b on a\u202e chair.", [("control", "1:6"), ("control", "1:12")]),
    ("A cat.\nA caf\ufffd.", [("broken", "2:6")]),
    ("# A cat\n- red chair\n- sun", [("list", "1:1"), ("list", "2:1"), ("list", "3:1")]),
    ("Think step by step and draw a cat.", [("reasoning", "1:1")]),
    ("A cat (asleep) on a chair.", [("brackets", "1:7")]),
    ('A sign reads "Open (daily)" in red.', [("brackets", "1:20")]),
]


@pytest.mark.parametrize(("text", "expected"), WRONG, ids=[text[:40] for text, _ in WRONG])
def test_what_is_wrong_is_found_where_it_stands(text: str, expected: list[tuple[str, str]]) -> None:
    assert [(f.code, f"{f.line}:{f.column}") for f in findings(text)] == expected


def test_every_rule_has_a_case_and_a_known_source() -> None:
    tried = {code for _, expected in WRONG for code, _ in expected}
    assert {rule.code for rule in RULES} == tried
    assert all(rule.source in sources() for rule in RULES)


RIGHT = [
    'A cafe in the rain. The sign above the door reads "OPEN" in red neon, and warm light falls on the wet pavement.',
    'A poster with "SALE" at the top in large red letters, "50 % off" in the middle and "Today only" at the bottom.',
    'A film poster. Below the title "Moonrise" stands the line "A true story" in small white letters.',
    'On the chalkboard on the left stands "Soup 4.50" and on the right, in green chalk, "Pie 3.20".',
    'A street at night with the sign "酒馆" in gold above a wooden door.',
    'The t-shirt of the boy on the left reads "NO. 7"; on the cap of his sister stands "Go!".',
    "A girl reading a book under a tree while her brother reads a newspaper on the bench.",
    "It's the dogs' park in the '90s, with rock 'n' roll on the radio and children's bikes on the grass.",
    "A watercolour of three foxes in the snow, the first standing, the second asleep, the third looking up.",
    "A portrait of a woman of sixty from Lagos with short grey hair, in a blue coat, by a window in soft light.",
    'A 24" monitor on a desk shows a chart; beside it stands a cup of coffee.',
    "A wall clock shows 10:30, and the score on the board is being changed by a man on a ladder.",
    "A 4K television stands in a dark room, its screen grey, and a cat sleeps on top of it.",
    "A red fox, a grey owl and a brown bear sit around a small fire in a pine forest at dusk, painted in gouache.",
    "A sign without any text hangs above the door; the picture contains no recognizable text.",
    "The woman says goodbye to her son at the station, steam around them, in the style of a 1940s photograph.",
    "Family photo: a man, a woman, two children 👨‍👩‍👧‍👦 at a table with bread, soup and flowers.",
    "咖啡店门口的黑板上用粉笔写着“奇妙咖啡 2美元一杯”，旁边的霓虹灯牌上写着“欢迎光临”。",
    "一位六十岁的女性站在窗边，短发花白，穿着蓝色外套，柔和的晨光照在她的脸上，写实摄影风格。",
    "她坐在书桌前正在写着信，窗外下着雪。",
    "书店的橱窗里放着一本书，封面上方写着「春天」，右下角用小字写着「第二版」。",
    "水墨画，远处的山被云雾遮住，近处的小船上坐着一位老人，画面中没有可识别的文字。",
    "一只橘猫趴在红色的椅子上睡觉，阳光从左侧的窗户照进来，背景是一面白墙。",
]


@pytest.mark.parametrize("text", RIGHT, ids=[text[:40] for text in RIGHT])
def test_a_right_prompt_gives_no_finding(text: str) -> None:
    assert findings(text) == ()


def test_the_august_models_own_ending_is_its_makers_and_praise_before_it_is_not() -> None:
    own = "A cat on a red chair in the sun, Ultra HD, 4K, cinematic composition."
    assert findings(own, model="qwen-image") == ()
    before = findings("A masterpiece of a cat on a red chair, Ultra HD, 4K, cinematic composition.", model="qwen-image")
    assert [f.found for f in before] == ["masterpiece"]


@pytest.mark.parametrize(
    ("text", "size", "code", "do"),
    [
        ("A cat, square format.", "1:1", "size-named", "it can go"),
        ("A cat, square format.", "16:9", "size-contradicts", "--size 1:1, and nothing about it in the prompt"),
        ("A cat, 3:4.", "1104x1472", "size-named", "it can go"),
        (
            "A cat, landscape orientation.",
            "9:16",
            "size-contradicts",
            "--size 16:9, and nothing about it in the prompt",
        ),
        ("A cat, 21:9.", "16:9", "size-contradicts", "--size, and nothing about it in the prompt"),
    ],
)
def test_a_shape_in_the_prompt_is_held_against_the_size_that_was_asked_for(
    text: str, size: str, code: str, do: str
) -> None:
    (found,) = findings(text, size=size)
    assert (found.code, found.do) == (code, do)


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "empty"), ("  \n", "empty"), ("x" * (1 << 20), "1,048,576 bytes"), ("a\udcffb", "not UTF-8")],
)
def test_what_is_no_prompt_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        prompt_of(text)


@given(st.text(min_size=1, max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_text_is_checked_and_every_finding_lies_in_it(text: str) -> None:
    try:
        prompt = prompt_of(text)
    except BadInput:
        return
    lines = prompt.text.split("\n")
    for found in findings(text):
        assert 1 <= found.line <= len(lines)
        assert 1 <= found.column <= len(lines[found.line - 1]) + 1
        assert found.found.isprintable()


@pytest.mark.parametrize(
    ("tokens", "code", "level"),
    [
        (TokenCount(1024, 1024, "t", {512: 3}), "long", "warning"),
        (TokenCount(1025, 1025, "t", {512: 3, 1024: 5}), "too-long", "error"),
        (TokenCount(1025, 4000), "too-long", "error"),
        (TokenCount(600, 2000), "long", "warning"),
        (TokenCount(100, 1300), "length-unknown", "note"),
        (TokenCount(100, 600), "length-unknown", "note"),
    ],
)
def test_a_prompt_too_long_for_the_encoder_is_told_by_what_is_certain(
    tokens: TokenCount, code: str, level: str
) -> None:
    (found,) = check_prompt(prompt_of("A cat on a chair."), find("2512"), None, tokens)
    assert (found.code, found.level) == (code, level)
    if tokens.cuts:
        assert found.column == max(tokens.cuts.values()) + 1
    assert check_prompt(prompt_of("A cat on a chair."), find("2512"), None, TokenCount(512, 512, "t")) == ()
    assert check_prompt(prompt_of("A cat on a chair."), find("2.1"), None, tokens) == ()


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [("a cat", 2, 5), ("2025", 4, 4), ("don't", 2, 5), ("招牌 12", 3, 9), ("e\u0301", 1, 2), ("…", 1, 3)],
)
def test_the_bounds_count_runs_of_letters_digits_and_bytes(text: str, least: int, most: int) -> None:
    assert (bounds(text).least, bounds(text).most) == (least, most)


@pytest.mark.library
@pytest.mark.server
@pytest.mark.slow
def test_a_prompt_is_counted_by_a_real_tokenizer_out_of_a_gguf_within_the_bounds(tmp_path: Path) -> None:
    long = "A red fox sits beside a small fire. " * 80
    for text in ("A cat on a red chair, 2025.", "咖啡店门口的黑板上写着“欢迎光临”。", long):
        data = prompt_check_result(text, tokenizer=layout().smollm).data
        counted = data["tokens"]["least"]
        assert data["tokens"]["most"] == counted
        assert bounds(text).least <= counted <= bounds(text).most
    (found,) = (f for f in data["findings"] if f["code"] == "long")
    assert long[found["column"] - 1 :].startswith(
        (" A", " red", " fox", " sits", " beside", " a", " small", " fire", ".")
    )
    no_vocabulary = layout().models / "mmproj-tiny-qwen3vl-f16.gguf"
    answer = qwenops("image", "prompt", "check", "A cat", "--tokenizer", no_vocabulary)
    assert answer.code == 2


@pytest.mark.library
@pytest.mark.server
def test_a_qwen_tokenizer_whose_header_was_read_before_is_found_and_counts() -> None:
    whole = layout().smollm.read_bytes()
    header = read_header(layout().smollm)
    # the encoder's way of cutting a text, on a vocabulary that is here
    raw = whole[: header.data_offset].replace(struct.pack("<Q", 6) + b"smollm", struct.pack("<Q", 5) + b"qwen2")
    assert len(raw) == header.data_offset - 1
    kept = parse_header(raw + b"\0", len(whole), layout().smollm)
    header_cache.keep("https://hub/qwen.gguf", "Qwen2.5-VL-7B.gguf", "v", raw + b"\0", kept)
    tokens = prompt_check_result("A cat on a red chair.").data["tokens"]
    assert str(tokens["tokenizer"]).endswith("Qwen2.5-VL-7B.gguf")
    assert tokens["least"] == tokens["most"] == 7


def test_the_command_reads_text_a_file_or_stdin_and_says_what_must_be_mended(tmp_path: Path) -> None:
    text = "A cat.\nA sign that says OPEN on the door."
    file = tmp_path / "prompt.txt"
    file.write_text(text, encoding="utf-8")
    answer = qwenops("image", "prompt", "check", "-f", file, "--json")
    assert answer.code == 1, answer.err
    (found,) = answer.data["findings"]
    assert (found["line"], found["column"], found["found"], found["from"]) == (2, 18, "OPEN", "rewriter")
    assert json.loads(qwenops("image", "prompt", "check", text, "--json").out)["findings"] == [found]
    right = qwenops("image", "prompt", "check", 'A cafe. The sign above the door reads "OPEN" in red.')
    assert (right.code, right.out.splitlines()[0]) == (0, "nothing to mend")


@pytest.mark.parametrize(
    ("raw", "said"), [(b"", "empty"), (b"\xff\xfe", "not UTF-8"), (b"x" * (MOST_BYTES + 1), "no prompt")]
)
def test_a_file_that_is_no_prompt_is_refused(tmp_path: Path, raw: bytes, said: str) -> None:
    (tmp_path / "p.txt").write_bytes(raw)
    answer = qwenops("image", "prompt", "check", "-f", tmp_path / "p.txt")
    assert answer.code == 2
    assert said in answer.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "give one prompt"),
        (("A cat", "-f", "p.txt"), "give one prompt"),
        (("-f", "none.txt"), "cannot be read"),
        (("A cat", "--model", "flux-dev"), "not for FLUX"),
        (("A cat", "--size", "7:3"), "no official size"),
    ],
)
def test_wrong_usage_is_told(args: tuple[str, ...], said: str) -> None:
    answer = qwenops("image", "prompt", "check", *args)
    assert answer.code == 2
    assert said in answer.err
