"""The size of a picture is what the runtime decodes: stored pixels, never turned."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from qwenops.errors import BadInput
from qwenops.model.picture import read_picture

RIGHT_SIDE_UP_AFTER_A_TURN = 6


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.gif", "a.ppm", "a.tga"])
def test_formats_that_the_runtime_reads(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (31, 17)).save(tmp_path / name)
    picture = read_picture(tmp_path / name)
    assert (picture.width, picture.height, picture.turned) == (31, 17, False)


@pytest.mark.parametrize("name", ["a.tiff", "a.jp2", "a.ico"])
def test_formats_that_it_does_not_read_are_refused_by_name(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / name)
    with pytest.raises(BadInput, match="which the runtime does not read"):
        read_picture(tmp_path / name)


def test_a_phones_picture_in_two_parts_is_a_jpeg_to_the_runtime(tmp_path: Path) -> None:
    image = Image.new("RGB", (31, 17))
    image.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (31, 17), "red")])
    assert read_picture(tmp_path / "phone.jpg").width == 31


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_a_printers_jpeg_is_read(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (31, 17)).save(tmp_path / "a.jpg")
    assert read_picture(tmp_path / "a.jpg").height == 17


def test_what_moves_is_read_where_the_runtime_takes_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (31, 17), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.png", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    assert [read_picture(tmp_path / name).width for name in ("a.gif", "a.png")] == [31, 31]
    with pytest.raises(BadInput, match="an animated WebP"):
        read_picture(tmp_path / "a.webp")


@pytest.mark.parametrize("data", [b"P3\n1 1\n255\n1 2 3\n", b"P4\n8 1\n\xff", b"P1\n1 1\n1\n"])
def test_pixmaps_in_text_or_bits_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.ppm").write_bytes(data)
    with pytest.raises(BadInput, match="a pixmap of a kind"):
        read_picture(tmp_path / "a.ppm")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "no such file"),
        (b"", "is not a picture"),
        (b"hello", "is not a picture"),
        (b"\x89PNG\r\n", "not a"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=why):
        read_picture(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read_picture(tmp_path)


def test_a_picture_that_is_stored_on_its_side_keeps_its_stored_sides(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 30))
    exif = image.getexif()
    exif[0x0112] = RIGHT_SIDE_UP_AFTER_A_TURN
    image.save(tmp_path / "phone.jpg", exif=exif)
    picture = read_picture(tmp_path / "phone.jpg")
    assert (picture.width, picture.height, picture.turned) == (40, 30, True)


@pytest.mark.parametrize(("stated", "read"), [((300, 300), 300), ((72, 72), None), ((1, 1), None), (None, None)])
def test_dots_per_inch_are_read_where_the_file_knows_them(
    tmp_path: Path, stated: tuple[int, int] | None, read: float | None
) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png", **({"dpi": stated} if stated else {}))
    assert read_picture(tmp_path / "a.png").dpi == (None if read is None else pytest.approx(read, abs=0.1))


def test_a_bomb_is_refused_without_being_decoded(tmp_path: Path) -> None:
    side = 60_000
    header = b"P6\n%d %d\n255\n" % (side, side)
    (tmp_path / "bomb.ppm").write_bytes(header)
    with pytest.raises(BadInput, match="too many pixels"):
        read_picture(tmp_path / "bomb.ppm")
