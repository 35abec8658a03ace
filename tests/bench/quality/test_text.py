"""A text is UTF-8, or marked, or refused with what it looks like."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwenops.bench.quality.text import BUILT_IN, read_text
from qwenops.errors import BadInput


@pytest.mark.parametrize(
    ("raw", "content", "note"),
    [
        ("Grüße\n".encode(), "Grüße", ""),
        (b"two\r\nlines\n\n", "two\r\nlines\n", ""),
        ("Grüße".encode("utf-8-sig"), "Grüße", "UTF-8 with a byte order mark"),
        ("Grüße".encode("utf-16"), "Grüße", "UTF-16"),
        (b"\xfe\xff" + "Grüße".encode("utf-16-be"), "Grüße", "UTF-16"),
        ("Grüße".encode("utf-32"), "Grüße", "UTF-32"),
    ],
)
def test_a_text_is_read_as_it_says(tmp_path: Path, raw: bytes, content: str, note: str) -> None:
    file = tmp_path / "t.txt"
    file.write_bytes(raw)
    text = read_text(file)
    assert text.content == content
    assert note in text.note
    assert bool(text.note) == bool(note)


@pytest.mark.parametrize(
    ("raw", "said", "do"),
    [
        ("Grüße aus Köln".encode("latin-1"), "not UTF-8 (byte 0xFC at 2); it may be", "iconv -f"),
        ("日本語の文章です".encode("shift_jis"), "it may be SHIFT_JIS", "iconv -f SHIFT_JIS"),
        (b"\x00\x01\x02abc", "holds zero bytes", "UTF-8"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "is no plain text", "UTF-8"),
        (b"\xff\xfe\x00", "begins as UTF-16 and is not", ""),
        (b"  \n", "holds no text", "words"),
        (b"", "holds no text", "words"),
    ],
)
def test_what_is_no_utf_8_is_refused_by_name(tmp_path: Path, raw: bytes, said: str, do: str) -> None:
    file = tmp_path / "t.txt"
    file.write_bytes(raw)
    with pytest.raises(BadInput) as caught:
        read_text(file)
    assert said in caught.value.message
    assert do in " ".join(caught.value.do)


def test_a_file_that_is_not_there_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        read_text(tmp_path / "none.txt")
    with pytest.raises(BadInput, match="is not a file"):
        read_text(tmp_path)


def test_the_text_that_comes_along_is_plain_and_long_enough_for_what_is_read_by_itself() -> None:
    text = read_text(None)
    assert text.name == "built-in text"
    assert 150_000 < len(text.content) < 250_000
    assert "Gutenberg" not in text.content
    assert BUILT_IN.with_suffix(".md").is_file()
