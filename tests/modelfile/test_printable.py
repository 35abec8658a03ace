"""The characters that Ollama keeps are a table; here it is held against Go's own."""

from __future__ import annotations

import pytest

from qwenops.modelfile.printable import first_dropped, is_printable, keep_printable
from tests.modelfile.conftest import Judge


@pytest.mark.go
def test_the_table_is_gos_own(judge: Judge) -> None:
    (answer,) = judge.ask([{"op": "printable"}])
    go = {code for first, last in answer["ranges"] for code in range(first, last + 1)}
    ours = {code for code in range(0x110000) if is_printable(chr(code))}
    # A newer Go may know newer characters; to refuse one of them is safe, to let one through that is dropped is not.
    assert ours <= go
    assert len(go - ours) < 10_000


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("plain ~", "plain ~"),
        ("a\tb", "a\tb"),
        ("a\x00b\x7f", "ab"),
        ("é😀漢", "é😀漢"),
        ("a\u200db\xa0c\u3000", "abc"),
    ],
)
def test_drops_what_ollama_drops(text: str, kept: str) -> None:
    assert keep_printable(text) == kept


def test_says_where_and_what_would_be_dropped() -> None:
    assert first_dropped("ok\n\tfine") is None
    assert first_dropped("ab\u200bc") == (2, "U+200B ZERO WIDTH SPACE")
