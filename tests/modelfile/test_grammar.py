"""The grammar is Ollama's: read and written the same, refused where it refuses, never mangled."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenops.errors import BadInput
from qwenops.modelfile.grammar import decode, parse, say, write
from qwenops.modelfile.quoting import quote
from qwenops.modelfile.types import CannotParse, Command, Modelfile
from tests.modelfile import cases
from tests.modelfile.conftest import Judge

READ = {
    "the word in any case": ("from a\nSyStEm hi\n", [("model", "a"), ("system", "hi")]),
    "a parameter keeps the case of its name": ("FROM a\nPARAMETER Stop x\n", [("model", "a"), ("Stop", "x")]),
    "no line end at the end": ("FROM a", [("model", "a")]),
    "comments and blank lines": ("# c\n\n  # d\nFROM a\n#\n", [("model", "a")]),
    "a # inside a value belongs to it": ("FROM a # b\n", [("model", "a # b")]),
    "spaces around a value go": ("FROM  \t a b \t\n", [("model", "a b")]),
    "quotes keep them": ('FROM " a "\n', [("model", " a ")]),
    "quotes inside bare text stay": ('FROM a "b" c\n', [("model", 'a "b" c')]),
    "a value of several lines": ('FROM a\nSYSTEM "x\n y"\n', [("model", "a"), ("system", "x\n y")]),
    "triple quotes hold quotes": (
        'FROM a\nSYSTEM """say "hi"\nthen"""\n',
        [("model", "a"), ("system", 'say "hi"\nthen')],
    ),
    "quotes close only where a line ends": ('FROM "a" b\nc"\n', [("model", 'a" b\nc')]),
    "an empty value": ("FROM a\nSYSTEM \n", [("model", "a"), ("system", "")]),
    "two FROM": ("FROM a\nFROM b\n", [("model", "a"), ("model", "b")]),
    "a message": ("FROM a\nMESSAGE user hi there\n", [("model", "a"), ("message", "user: hi there")]),
    "a quoted message": ('FROM a\nMESSAGE user " hi"\n', [("model", "a"), ("message", "user:  hi")]),
    "CRLF": ("FROM a\r\nSYSTEM b\r\n", [("model", "a"), ("system", "b")]),
    "CRLF inside quotes is kept": ('FROM a\r\nSYSTEM "b\r\nc"\r\n', [("model", "a"), ("system", "b\r\nc")]),
    "a byte order mark": ("\ufeffFROM a\n", [("model", "a")]),
    "unprintable characters are dropped": ("FROM a\x00b\u200dc\xa0d\n", [("model", "abcd")]),
    "a zero-width space before the word": ("\u200bFROM a\n", [("model", "a")]),
    "two spaces make a parameter without a name": ("FROM a\nPARAMETER  stop x\n", [("model", "a"), ("", "stop x")]),
    "a parameter named model is a FROM": ("PARAMETER model a\n", [("model", "a")]),
    "RENDERER, PARSER, REQUIRES, DRAFT": (
        "FROM a\nRENDERER r\nPARSER p\nREQUIRES 0.30.0\nDRAFT d\n",
        [("model", "a"), ("renderer", "r"), ("parser", "p"), ("requires", "0.30.0"), ("draft", "d")],
    ),
}
REFUSED = {
    "nothing": ("", 0, "no FROM line"),
    "no FROM": ("SYSTEM hi\n", 0, "no FROM line"),
    "an unknown word": ("FROM a\n\nFORM b\n", 3, "unknown word 'FORM'"),
    "a word that Ollama uses inside": ("MODEL a\n", 1, "unknown word 'MODEL'"),
    "a word without a value": ("FROM a\nSYSTEM\n", 2, "SYSTEM has no value"),
    "a word at the end": ("FROM a\nSYSTEM", 2, "SYSTEM has no value"),
    "a word glued to its value": ('FROM a\nSYSTEM"x"\n', 2, "cannot stand in"),
    "a parameter without a value": ("FROM a\nPARAMETER stop\n", 2, "PARAMETER stop has no value"),
    "a parameter with a dash": ("FROM a\nPARAMETER num-ctx 1\n", 2, "cannot stand in"),
    "a role nobody knows": ("FROM a\nMESSAGE tool x\n", 2, "not 'tool'"),
    "a role in capitals": ("FROM a\nMESSAGE User x\n", 2, "not 'User'"),
    "two spaces before the role": ("FROM a\nMESSAGE  user x\n", 2, "not ''"),
    "quotes that never close": ('FROM a\r\nSYSTEM "x\ny\n', 2, "never close"),
    "triple quotes closed by one": ('FROM a\nSYSTEM """x"\n', 2, "never close"),
    "five quotes": ('FROM a\nSYSTEM """""\n', 2, "never close"),
}
SAID = {
    "plain": ("a b", "a b"),
    "nothing": ("", '""'),
    "an edge space": (" a", '" a"'),
    "an edge tab": ("a\t", '"a\t"'),
    "a line end": ("a\nb", '"a\nb"'),
    "inner quotes": ('a "b" c', 'a "b" c'),
    "a leading quote": ('"a', '""a"'),
    "quotes at a line end": ('say "hi"\nthen', '"""say "hi"\nthen"""'),
    "quotes inside lines": ('a "b" c\nd', '"a "b" c\nd"'),
    "two quotes": ('""', '""""""""'),
    "a backslash is itself": ("a\\nb\\", "a\\nb\\"),
    "an emoji": ("😀", "😀"),
    "a combining mark": ("e\u0301", "e\u0301"),
}
UNSAYABLE = {
    "triple quotes at a line end": ('a"""\nb', "closes? a line of it ends in"),
    "triple quotes, blanks, a line end": ('a""" \t\nb', "a line of it ends in"),
    "NUL": ("a\x00b", r"U\+0000"),
    "a joined emoji": ("x\n👩\u200d💻", r"U\+200D ZERO WIDTH JOINER \(line 2"),
    "an ideographic space": ("第\u3000一", r"U\+3000 IDEOGRAPHIC SPACE"),
    "a no-break space": ("a\xa0b", r"U\+00A0 NO-BREAK SPACE"),
    "a lone surrogate": ("\ud800", r"U\+D800"),
}


@pytest.mark.parametrize(("text", "commands"), READ.values(), ids=READ)
def test_reads(text: str, commands: list[tuple[str, str]]) -> None:
    assert [(c.name, c.args) for c in parse(text).commands] == commands


@pytest.mark.parametrize(("text", "line", "cause"), REFUSED.values(), ids=REFUSED)
def test_refuses_with_the_line(text: str, line: int, cause: str) -> None:
    with pytest.raises(CannotParse) as refusal:
        parse(text)
    assert refusal.value.line == line
    assert cause in refusal.value.message


@pytest.mark.parametrize(("value", "said"), SAID.values(), ids=SAID)
def test_says_a_value_in_its_plainest_form(value: str, said: str) -> None:
    assert quote(value) == said


@pytest.mark.parametrize(("value", "why"), UNSAYABLE.values(), ids=UNSAYABLE)
def test_never_mangles_what_cannot_be_said(value: str, why: str) -> None:
    with pytest.raises(BadInput, match=why.removeprefix("closes? ")) as refusal:
        write(Modelfile((Command("model", "a"), Command("system", value))))
    assert "the value of SYSTEM" in refusal.value.message


@pytest.mark.parametrize(
    "command",
    [
        Command("message", "tool: x"),
        Command("message", "user"),
        Command("", "x"),
        Command("num-ctx", "1"),
        Command("é", "1"),
    ],
    ids=str,
)
def test_refuses_to_say_a_command_that_is_none(command: Command) -> None:
    with pytest.raises(BadInput):
        say(command)


def test_names_the_word_that_was_meant() -> None:
    with pytest.raises(CannotParse) as refusal:
        parse("FROM a\nPARAMTER num_ctx 1\n")
    assert refusal.value.do == ("did you mean PARAMETER?",)


def test_knows_the_line_of_each_command() -> None:
    text = 'FROM a\r\n\r\nSYSTEM "x\r\ny"\r\n# c\r\nPARAMETER stop z\r\n'
    assert [c.line for c in parse(text).commands] == [1, 3, 6]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xef\xbb\xbfFROM a", "FROM a"),
        ("\ufeffFROM ä".encode("utf-16-le"), "FROM ä"),
        ("\ufeffFROM ä".encode("utf-16-be"), "FROM ä"),
        (b"FROM \xff\xe2\x82", "FROM \ufffd\ufffd"),
        (b"\xef\xbb\xbfFROM \xff\xe2\x82", "FROM \ufffd\ufffd\ufffd"),
    ],
    ids=["a UTF-8 mark", "UTF-16 little", "UTF-16 big", "bad bytes", "bad bytes behind a mark"],
)
def test_decodes_as_ollama_does(data: bytes, text: str) -> None:
    assert decode(data) == text


def test_reads_a_long_value_in_time() -> None:
    text = 'FROM a\nSYSTEM """' + 'a line with "quotes"\n' * 100_000 + '"""\n'
    begun = time.perf_counter()
    parse(text)
    assert time.perf_counter() - begun < 5


_ANY = st.text(st.characters(exclude_categories=("Cs",)) | st.sampled_from(list('"\n\r\t #\\')), max_size=30)


@given(_ANY)
@settings(max_examples=500, deadline=None)
def test_a_value_is_said_exactly_or_refused(value: str) -> None:
    try:
        text = write(Modelfile((Command("model", "a"), Command("system", value), Command("stop", "z"))))
    except BadInput:
        return
    assert parse(text).commands == (Command("model", "a"), Command("system", value), Command("stop", "z"))


@given(st.lists(_ANY, max_size=6))
@settings(max_examples=300, deadline=None)
def test_what_was_read_can_be_written_and_read_again(lines: list[str]) -> None:
    try:
        modelfile = parse("FROM a\n" + "\nSYSTEM ".join(["", *lines]))
    except CannotParse:
        return
    assert parse(write(modelfile)) == modelfile


def test_a_thousand_modelfiles_come_back_the_same() -> None:
    rng = random.Random(20261124)
    for _ in range(1000):
        modelfile = cases.modelfile(rng)
        assert parse(write(modelfile)) == modelfile


@pytest.mark.go
def test_ollamas_own_parser_reads_a_thousand_of_ours_the_same(judge: Judge) -> None:
    rng = random.Random(20261124)
    modelfiles = [cases.modelfile(rng) for _ in range(1000)]
    answers = judge.parse(write(m) for m in modelfiles)
    assert len(answers) == 1000
    for modelfile, answer in zip(modelfiles, answers, strict=True):
        assert answer.get("commands") == [{"name": c.name, "args": c.args} for c in modelfile.commands], write(
            modelfile
        )


@pytest.mark.go
def test_ollamas_own_parser_agrees_on_any_text(judge: Judge) -> None:
    rng = random.Random(7)
    texts = [cases.text(rng) for _ in range(5000)] + [t for t, *_ in (*READ.values(), *REFUSED.values())]
    refused = 0
    for text, answer in zip(texts, judge.parse(texts), strict=True):
        try:
            ours = [{"name": c.name, "args": c.args} for c in parse(text).commands]
        except CannotParse:
            ours = None
            refused += 1
        assert answer.get("commands") == ours, (text, answer)
    assert 500 < refused < 4500


@pytest.mark.go
def test_ollamas_own_parser_agrees_on_any_bytes(judge: Judge) -> None:
    rng = random.Random(8)
    alphabet = (
        b"\xff",
        b"\xe2",
        b"\x82",
        b"\xac",
        b"\xf0\x9f",
        b"\xed\xa0\x80",
        b"\xc0\xaf",
        b"a",
        b'"',
        b"\n",
        b" ",
        b"\xc3\xa4",
    )
    marks = (b"", b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf")
    files = [
        rng.choice(marks) + b"FROM a\nSYSTEM " + b"".join(rng.choice(alphabet) for _ in range(rng.randrange(12)))
        for _ in range(2000)
    ]
    files += ["\ufeffFROM ä\nSYSTEM 漢😀\n".encode(e) for e in ("utf-16-le", "utf-16-be")]
    for data, answer in zip(files, judge.parse(files), strict=True):
        try:
            ours = [{"name": c.name, "args": c.args} for c in parse(data).commands]
        except CannotParse:
            ours = None
        assert answer.get("commands") == ours, (data, answer)
