"""Pages to show to a model: picture files, what a folder holds, the pages of a PDF."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qwenops.errors import BadInput, PartMissing, QwenopsError
from qwenops.model.picture import SUFFIXES, read_picture, unfolded

MOST_PAGES: Final = 200
_PDF_DPI: Final = 200
_MOST_PIXELS: Final = 20_000_000  # of a rendered page; a picture of 16384 tokens, the most anyone sets, has 17 million
_OTHER_SUFFIXES: Final = (".pdf", ".tif", ".tiff", ".heic", ".heif", ".avif", ".svg", ".jxl")


@dataclass(frozen=True)
class Page:
    """One picture to show: a file, or one page of a PDF. Its bytes are made when they are sent: pages can be many.

    `width` and `height` are those of the picture that is sent, in pixels.
    """

    file: Path
    width: int
    height: int
    number: int | None = None
    turned: bool = False

    def data(self) -> bytes:
        """What is sent. Raises BadInput where the page cannot be drawn."""
        return self.file.read_bytes() if self.number is None else _drawn(self.file, self.number)

    @property
    def label(self) -> str:
        """The file's name, with the page where it has several."""
        return self.file.name if self.number is None else f"{self.file.name} p. {self.number}"


def could_be_file(text: str) -> bool:
    """Whether what was typed is a file, or is named like a page: it is no prompt then."""
    path = Path(text)
    try:
        return path.exists() or path.suffix.lower() in (*SUFFIXES, *_OTHER_SUFFIXES)
    except OSError:  # a prompt can be longer than any path
        return False


def pages_in(files: Sequence[Path]) -> tuple[list[Page], list[tuple[Path, QwenopsError]]]:
    """Every page of the files and folders, and the files that cannot be shown with the reason.

    Raises BadInput for more pages than anyone waits for.
    """
    pages: list[Page] = []
    refused: list[tuple[Path, QwenopsError]] = []
    for path in unfolded(files, SUFFIXES | {".pdf"}):
        try:
            pages += _pages_of(path, len(pages))
        except _TooMany:
            raise
        except QwenopsError as e:
            refused.append((path, e))
    return pages, refused


class _TooMany(BadInput):
    """More pages than anyone waits for: nothing is shown at all."""


def _pages_of(path: Path, before: int) -> list[Page]:
    if path.suffix.lower() != ".pdf":
        _count(before + 1, path)
        picture = read_picture(path)
        return [Page(path, picture.width, picture.height, turned=picture.turned)]
    with _document(path) as document:
        _count(before + len(document), path)
        return [Page(path, *_drawn_size(document[n - 1]), number=n) for n in range(1, len(document) + 1)]


def _count(pages: int, path: Path) -> None:
    if pages > MOST_PAGES:
        raise _TooMany(f"{pages} pages up to {path.name}, and {MOST_PAGES} are the most", do="give fewer")


@contextlib.contextmanager
def _document(path: Path) -> Iterator[Any]:
    """A PDF, open. Raises BadInput for what is none, wants a password, or has a page that cannot be drawn."""
    try:
        import pypdfium2
    except ImportError:
        raise PartMissing("reading a PDF needs pypdfium2", do='pip install "qwenops[pdf]"') from None
    try:
        with contextlib.closing(pypdfium2.PdfDocument(path)) as document:
            yield document
    except pypdfium2.PdfiumError as e:
        raise BadInput(f"{path} is not a PDF that can be read: {e}") from None
    except (OSError, MemoryError) as e:
        raise BadInput(f"{path} cannot be read: {getattr(e, 'strerror', None) or type(e).__name__}") from None


def _scale(page: Any) -> float:
    """Pixels a point: 200 dots an inch, about what a page of 4096 tokens still shows; less for a poster."""
    width, height = page.get_size()
    return min(_PDF_DPI / 72, math.sqrt(_MOST_PIXELS / max(width * height, 1)))


def _drawn_size(page: Any) -> tuple[int, int]:
    width, height = page.get_size()
    return max(1, math.ceil(width * _scale(page))), max(1, math.ceil(height * _scale(page)))


def _drawn(path: Path, number: int) -> bytes:
    picture = io.BytesIO()
    with _document(path) as document:
        page = document[number - 1]
        page.render(scale=_scale(page)).to_pil().save(picture, "PNG")
    return picture.getvalue()
