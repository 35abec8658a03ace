"""The text that is read: a user's file or the one that comes along, as UTF-8 or not at all."""

from __future__ import annotations

import codecs
import hashlib
from pathlib import Path

from qwenops.bench.quality.types import Text
from qwenops.errors import BadInput

BUILT_IN = Path(__file__).with_name("text.txt")
MOST_BYTES = 64 * 1024**2
"""A text is tokenized whole, as llama-perplexity does it."""

# The longer mark first: UTF-32's begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8 with a byte order mark"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
_GUESSES = (("shift_jis", "SHIFT_JIS"), ("gb18030", "GB18030"), ("cp1252", "CP1252"))


def read_text(path: Path | None) -> Text:
    """The text of a file, without its last line end, as llama-perplexity reads it; the built-in one for None.

    A byte order mark decides the encoding; anything else must be UTF-8. Raises BadInput, saying what it looks like.
    """
    file = path or BUILT_IN
    raw = _bytes_of(file)
    content, note = decoded(file, raw)
    if not content.strip():
        raise BadInput(f"{file} holds no text", do="give a text of some thousand words")
    name = file.name if path else "built-in text"
    return Text(name, content.removesuffix("\n"), hashlib.sha256(raw).hexdigest(), note)


def _bytes_of(file: Path) -> bytes:
    try:
        if not file.is_file():
            raise BadInput(f"{file} is not a file" if file.exists() else f"no such file: {file}", do="--text FILE")
        if file.stat().st_size > MOST_BYTES:
            raise BadInput(f"{file} is larger than 64 MiB", do=f"head -c 8M {file} > part.txt")
        return file.read_bytes()
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror or error}", do=f"ls -l {file}") from None


def decoded(file: Path, raw: bytes) -> tuple[str, str]:
    """The words of a text file, and a note where a mark decided its encoding. Raises BadInput for any but UTF-8."""
    for mark, encoding, name in _MARKS:
        if raw.startswith(mark):
            try:
                return raw[len(mark) :].decode(encoding), f"{file.name} was read as {name}"
            except UnicodeDecodeError as error:
                raise BadInput(f"{file} begins as {name} and is not: {error.reason} at {error.start}") from None
    try:
        content = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _other(file, raw, error) from None
    if "\0" in content:
        raise BadInput(f"{file} holds zero bytes: it is no plain text", do="give a text file in UTF-8")
    return content, ""


def _other(file: Path, raw: bytes, error: UnicodeDecodeError) -> BadInput:
    where = f"{file} is not UTF-8 (byte 0x{raw[error.start]:02X} at {error.start})"
    if b"\0" in raw:
        return BadInput(f"{where} and holds zero bytes: it is no plain text", do="give a text file in UTF-8")
    for codec, name in _GUESSES:
        try:
            raw.decode(codec)
        except UnicodeDecodeError:
            continue
        return BadInput(f"{where}; it may be {name}", do=f"iconv -f {name} -t UTF-8 {file} > text.utf8")
    return BadInput(where, do=f"iconv -f ENCODING -t UTF-8 {file} > text.utf8")
