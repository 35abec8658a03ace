"""A user's own pages: what cannot be shown or read spoils its page alone, and says why."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from qwenops.bench.reading.folder import folder_pages
from qwenops.errors import BadInput


def picture(path: Path, size: tuple[int, int] = (40, 20)) -> Path:
    Image.new("L", size, 255).save(path)
    return path


def bomb(path: Path) -> Path:
    """A PNG of a few bytes that claims billions of pixels."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    told = b"".join(
        struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + told)
    return path


def test_pages_come_with_their_text_in_any_marked_encoding_and_forms_with_their_fields(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("Grüße", encoding="utf-16")
    picture(tmp_path / "b.webp")
    (tmp_path / "b.json").write_text('{"total": 3.5, "shop": "Kesa"}')
    picture(tmp_path / "c.png")
    found = folder_pages(tmp_path)
    assert [(p.id, p.truth) for p in found.pages] == [("a.png", "Grüße"), ("b.webp", "3.5\nKesa")]
    assert found.pages[1].fields == {"total": "3.5", "shop": "Kesa"}
    assert found.pages[1].png.startswith(b"\x89PNG")
    assert found.name == tmp_path.name
    assert not found.spoiled
    assert any("c.png" in note for note in found.notes)
    assert any("UTF-16" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "truth", "why"),
    [
        ("text.png", b"words", "is not a picture"),
        ("bomb.png", b"words", "pixels"),
        ("large.png", b"words", "64 million"),
        ("cut.png", b"words", "truncated"),
        ("latin.png", "Grüße aus Köln".encode("latin-1"), "not UTF-8 (byte 0xFC at 2); it may be"),
        ("zero.png", b"a\0b", "zero bytes"),
        ("empty.png", b" \n", "empty"),
    ],
)
def test_a_bad_page_is_spoiled_with_its_reason_and_the_others_stay(
    tmp_path: Path, name: str, truth: bytes, why: str
) -> None:
    path = tmp_path / name
    picture(path, (300, 200))
    if name == "text.png":
        path.write_text("not a picture")
    elif name == "bomb.png":
        bomb(path)
    elif name == "large.png":
        Image.new("1", (9000, 9000)).save(path)
    elif name == "cut.png":
        path.write_bytes(path.read_bytes()[:-30])
    path.with_suffix(".txt").write_bytes(truth)
    picture(tmp_path / "zz.png")
    (tmp_path / "zz.txt").write_text("fine")
    found = folder_pages(tmp_path)
    assert [page.id for page in found.pages] == ["zz.png"]
    assert [one.id for one in found.spoiled] == [name]
    assert why in found.spoiled[0].why


@pytest.mark.parametrize(
    ("told", "why"), [("{", "is not JSON"), ("[1]", "one object"), ('{"a": {"b": 1}}', "single values")]
)
def test_fields_are_one_flat_object(tmp_path: Path, told: str, why: str) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "a.json").write_text(told)
    assert why in folder_pages(tmp_path).spoiled[0].why


def test_a_folder_without_pages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no pictures with their text"):
        folder_pages(tmp_path)
    with pytest.raises(BadInput, match="no such folder"):
        folder_pages(tmp_path / "none")
    with pytest.raises(BadInput, match="is not a folder"):
        folder_pages(picture(tmp_path / "a.png"))
