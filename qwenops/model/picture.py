"""The size of a picture as the runtime sees it: its stored pixels, read from the file's head without decoding it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qwenops.errors import BadInput

# stb_image, by which llama.cpp decodes (tools/mtmd/mtmd-helper.cpp, b10435), and WebP, which Ollama makes a PNG of
# (llm/llama_server.go, v0.32.14)
READABLE: Final = frozenset({"PNG", "JPEG", "MPO", "GIF", "BMP", "PPM", "TGA", "PSD", "WEBP"})
"""Formats by Pillow's name; an MPO is a phone's JPEG with a second picture behind the one that is read."""
SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"})
"""How the names of pictures end that are taken from a folder."""

_RAW_PIXMAPS: Final = (b"P5", b"P6")  # of the PPM family stb_image reads grey and colour in binary, no other
_ORIENTATION: Final = 0x0112
_UPRIGHT: Final = 1
_PLACEHOLDER_DPI: Final = 72.5  # a PNG counts dots a metre, and 72 comes back as a little more


@dataclass(frozen=True)
class Picture:
    """Width and height in pixels as stored; dots per inch where the file says them; whether it asks to be turned.

    The runtime does not turn a picture: a phone's photograph that is stored on its side is seen on its side.
    """

    path: Path
    format: str
    width: int
    height: int
    dpi: float | None
    turned: bool


def unfolded(paths: Iterable[Path], suffixes: Collection[str] = SUFFIXES) -> Iterator[Path]:
    """The paths, and in place of a folder the files in it that end so, by name. Raises BadInput where one is closed."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        try:
            yield from sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes)
        except OSError as e:
            raise BadInput(f"{path} cannot be read: {e.strerror}", do=f"ls -ld {path}") from None


def read_picture(path: Path) -> Picture:
    """Read the head of a picture file.

    Raises BadInput, with what to do, for a file that is missing, is no picture, or is one that the runtime cannot read.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # a size is only read here, so a picture of many pixels does no harm
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                kind, (width, height) = image.format or "", image.size
                moving = getattr(image, "is_animated", False)
                dpi, turned = _dpi(image.info), image.getexif().get(_ORIENTATION, _UPRIGHT) != _UPRIGHT
    except FileNotFoundError:
        raise BadInput(f"no such file: {path}") from None
    except UnidentifiedImageError:
        raise BadInput(f"{path} is not a picture", do="give a PNG, JPEG, WebP, BMP or GIF") from None
    except Image.DecompressionBombError as e:
        raise BadInput(f"{path} has too many pixels to be decoded: {e}", do="scale it down first") from None
    except (OSError, ValueError, SyntaxError) as e:
        raise BadInput(f"{path} cannot be read: {getattr(e, 'strerror', None) or e}") from None
    if kind not in READABLE:
        raise BadInput(f"{path} is a {kind} picture, which the runtime does not read", do="save it as PNG or JPEG")
    if kind == "WEBP" and moving:
        raise BadInput(f"{path} is an animated WebP, which Ollama does not read", do="save its frames as PNG or JPEG")
    if kind == "PPM" and _first_bytes(path) not in _RAW_PIXMAPS:
        raise BadInput(f"{path} is a pixmap of a kind that the runtime does not read", do="save it as PNG or JPEG")
    return Picture(path, kind, width, height, dpi, turned)


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(2)


def _dpi(info: dict[str | tuple[int, int], Any]) -> float | None:
    """What the file says of its resolution; cameras and screens write 72 or 1 where they know nothing."""
    stated = info.get("dpi")
    try:
        across, down = (float(v) for v in stated or ())
    except (TypeError, ValueError):
        return None
    usual = math.isfinite(across) and math.isfinite(down) and min(across, down) > _PLACEHOLDER_DPI
    return round(math.sqrt(across * down), 1) if usual else None
