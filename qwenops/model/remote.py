"""The header of one GGUF that is not here, read over HTTP ranges: as much as the header takes, and no more.

One range is asked for and read only as far as the parser goes; then the line is hung up. So a server that ignores
ranges costs no more than one that does not. A variant of a model whose header was read already costs less still: its
vocabulary, nearly all of a header, is the same, so only what lies before and behind it is fetched.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

from qwenops.errors import BadInput, NotAGGUF, OutOfReach, PartMissing, QwenopsError
from qwenops.model import header_cache
from qwenops.model.gguf_header import read_through
from qwenops.model.types import Header
from qwenops.model.vocabulary import HEAD_BYTES, Vocabulary
from qwenops.model.web import Answer, Limits, Token, get, trouble
from qwenops.units import MIB, pad

FIRST_BYTES = 8 * MIB
"""A header with a vocabulary of 152k tokens takes 6 MiB."""

SMALL_BYTES = MIB // 4
"""Headers without a vocabulary: projectors, and every shard but the first."""

MOST_BYTES = 32 * MIB
"""No model's header is half as long; what claims more is refused."""

MOST_RANGES = 40
"""A server may give less than it was asked for, as long as it gives something."""
_CHUNK_BYTES = MIB // 4
# What a server that does not say a file's length may have: the true one follows from the header.
_ANY_LENGTH = 1 << 60
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


@dataclass(frozen=True)
class RemoteFile:
    """One file somewhere else. `shown` names it in messages; `gated` is what to do where the server wants a login.

    `content` is a digest of the whole file where a listing gave one: then a kept header needs no question whether it
    is still true. `size_bytes` is the listing's, and the server's must be the same. `kept_under` is the address under
    which its header is kept where that is another one than `url`.
    """

    url: str
    name: str
    shown: str
    size_bytes: int | None = None
    content: str | None = None
    token: Token | None = field(default=None, repr=False)
    gated: tuple[str, ...] = ()
    first_bytes: int = FIRST_BYTES
    kept_under: str = ""

    @property
    def path_shown(self) -> Path:
        """`shown` where a path is wanted for a message; one would swallow a slash of "https://"."""
        return Path(self.shown.rpartition("://")[2])


def read_remote_header(
    file: RemoteFile,
    *,
    offline: bool = False,
    like: Callable[[], Vocabulary | None] = lambda: None,
    limits: Limits | None = None,
) -> tuple[Header, Path]:
    """The header of a file that is not here, and a file of ours that holds the header's bytes under its name.

    `like` gives the vocabulary of another variant, where there is one. Raises NotAGGUF where the file is none or claims
    what cannot be, BadInput for a wrong address or an answer that contradicts itself, PartMissing where the server is
    out of reach or wants a login, or `offline` forbids to ask it.
    """
    kept = header_cache.find(file.kept_under or file.url)
    if kept and (offline or (file.content is not None and kept.validator == file.content)):
        if header := _kept_header(kept, file):
            return header, kept.path
        kept = None
    if offline:
        raise OutOfReach(f"{file.shown} was not read before, and the network is not to be used", do="without --offline")
    vocabulary = like()
    if vocabulary is not None:
        file = replace(file, first_bytes=HEAD_BYTES)
    with Ranges(file, kept.validator if kept else "", limits or Limits()) as wire:
        if wire.unchanged and kept:
            if header := _kept_header(kept, file):
                return header, kept.path
            wire.start_over()
        header, data = _read(file, wire, vocabulary)
    return header, header_cache.keep(file.kept_under or file.url, file.name, wire.validator, data, header)


def _kept_header(kept: header_cache.Kept, file: RemoteFile) -> Header | None:
    try:
        prefix = kept.path.read_bytes()
        header, _ = read_through(_from(prefix), kept.file_bytes, file.path_shown)
    except (OSError, QwenopsError):
        return None
    return header if header.checksum == kept.checksum else None


def _from(prefix: bytes) -> Callable[[bytearray, int], None]:
    def fill(data: bytearray, up_to: int) -> None:
        data += prefix[len(data) :]

    return fill


def _read(file: RemoteFile, wire: Ranges, like: Vocabulary | None) -> tuple[Header, bytearray]:
    """By the vocabulary of another variant where that works out to the byte, else straight through."""
    size = wire.size if wire.size is not None else _ANY_LENGTH
    if like is not None and wire.size is not None and wire.ranged:
        head = bytearray()
        wire.fill(head, min(HEAD_BYTES, wire.size))
        spliced = like.splice(head, wire.piece)
        if spliced is not None:
            try:
                header, data = read_through(_after(spliced, wire), size, file.path_shown)
            except NotAGGUF:
                pass
            else:
                if _end_of(header) == size:
                    return header, data
        header, data = read_through(_after(head, wire), size, file.path_shown)
    else:
        header, data = read_through(wire.fill, size, file.path_shown)
    return (header, data) if wire.size is not None else (replace(header, file_bytes=_end_of(header)), data)


def _after(start: bytearray, wire: Ranges) -> Callable[[bytearray, int], None]:
    def fill(data: bytearray, up_to: int) -> None:
        if len(data) < len(start):
            data += start[len(data) :]
        if len(data) < up_to:
            wire.fill(data, up_to)

    return fill


def _end_of(header: Header) -> int:
    """Where the last tensor ends, with the padding that every writer adds."""
    return header.data_offset + max((pad(t.offset + t.size_bytes, header.alignment) for t in header.tensors), default=0)


class Ranges:
    """The wire to one file: opens ranges as they are needed, and believes nothing that does not add up."""

    def __init__(self, file: RemoteFile, validator: str, limits: Limits) -> None:
        self.file, self.limits = file, limits
        self.url = file.url
        self.opened = 0
        self.size: int | None = None
        self.validator = ""
        self.unchanged = False
        self.ranged = False
        self._answer: Answer | None = None
        self._at = self._left = 0
        self._nothing_yet = True
        self._ends = time.monotonic() + limits.total_s
        self._open(0, file.first_bytes, validator)

    def __enter__(self) -> Ranges:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._hang_up()

    def start_over(self) -> None:
        """Ask again, as if nothing were kept."""
        self.unchanged = False
        self._open(0, self.file.first_bytes, "")

    def fill(self, data: bytearray, up_to: int) -> None:
        """Append to `data`, which holds the file's first bytes, until it has `up_to`."""
        if up_to > MOST_BYTES:
            raise NotAGGUF(
                f"{self.file.shown} cannot be used: its header would reach byte {up_to}, "
                f"and no model's is longer than {MOST_BYTES}"
            )
        while len(data) < up_to:
            if self._answer is None or self._at != len(data):
                self._open(len(data), max(up_to - len(data), FIRST_BYTES), "")
            data += self._read(min(_CHUNK_BYTES, MOST_BYTES - len(data)))
            if data[:64].lstrip()[:1] == b"<":
                raise web_page(self.file.shown, self.file.gated)

    def piece(self, start: int, n_bytes: int) -> bytes:
        """`n_bytes` from `start`, or fewer at the end of the file."""
        if self.size is not None:
            n_bytes = min(n_bytes, self.size - start)
        if n_bytes <= 0:
            return b""
        self._open(start, n_bytes, "")
        data = bytearray()
        while len(data) < n_bytes:
            if self._answer is None:
                self._open(start + len(data), n_bytes - len(data), "")
            data += self._read(n_bytes - len(data))
        return bytes(data)

    def _read(self, n_bytes: int) -> bytes:
        assert self._answer is not None
        got = self._answer.read(min(n_bytes, self._left))
        self._at += len(got)
        self._left -= len(got)
        if not got:
            if self._nothing_yet or not self.ranged:
                raise PartMissing(
                    f"{self.file.shown}: the connection broke off at byte {self._at}", do="try again, it is read anew"
                )
            self._hang_up()
        self._nothing_yet = False
        if self._left == 0:
            self._hang_up()
        return got

    def _hang_up(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def _open(self, start: int, n_bytes: int, validator: str) -> None:
        self._hang_up()
        if self.opened == MOST_RANGES:
            raise PartMissing(f"{self.file.shown}: the connection broke off {MOST_RANGES} times", do="try again later")
        if self.size is not None and start >= self.size:
            raise NotAGGUF(
                f"{self.file.shown} cannot be used: its header reaches past its end at byte {self.size}",
                do="take another file; this one is cut off or damaged",
            )
        self.opened += 1
        self._nothing_yet = True
        headers = {"Range": f"bytes={start}-{start + n_bytes - 1}", **_conditions(validator)}
        left_s = self._ends - time.monotonic()
        if left_s <= 0:
            raise trouble(self.url, TimeoutError(), self.limits, late=True)
        limits = replace(self.limits, total_s=left_s)
        answer = get(self.url, headers=headers, token=self.file.token, limits=limits)
        try:
            self._judge(answer, start, n_bytes, validator)
        except BaseException:
            answer.close()
            raise
        if self.unchanged:
            answer.close()
            return
        if answer.url != self.url:
            # further ranges go straight to where the first one led
            self.url = answer.url
        self._answer = answer

    def _judge(self, answer: Answer, start: int, n_bytes: int, validator: str) -> None:
        if answer.status == 304 and validator:
            self.unchanged = True
            return
        if answer.status == 416:
            raise NotAGGUF(f"{self.file.shown} is not a GGUF: the server says that nothing is at byte {start}")
        if answer.status not in (200, 206):
            raise refusal(answer, self.file.shown, self.file.gated)
        coding = answer.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("", "identity"):
            raise BadInput(f"{self.file.shown} comes compressed ({coding}) although it was asked for as it is")
        if answer.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise web_page(self.file.shown, self.file.gated)
        size = self._size_of(answer, start, n_bytes)
        own = _validator(answer, size)
        if self.opened > 1 and self.validator and (size, own) != (self.size, self.validator) and not self.file.content:
            raise PartMissing(f"{self.file.shown} changed while it was read", do="try again")
        expected = self.size if self.size is not None else self.file.size_bytes
        if expected is not None and size is not None and size != expected:
            raise BadInput(
                f"{self.file.shown} contradicts itself: {expected} bytes by the list, {size} by the server",
                do="try again; a proxy in between may hold an old or broken copy",
            )
        self.size = size if size is not None else expected
        self.validator = self.file.content or own
        if validator and own == validator:
            self.unchanged = True

    def _size_of(self, answer: Answer, start: int, n_bytes: int) -> int | None:
        """The whole file's length as the answer gives it; sets what may be read of this answer."""
        length = answer.headers.get("Content-Length")
        if length is not None and not (length.isascii() and length.isdigit() and len(length) < 20):
            raise BadInput(f"{self.file.shown}: the server gives a length of {length[:40]!r}")
        self._at = start
        if answer.status == 200:
            if start:
                raise BadInput(f"{self.file.shown}: the server answers ranges at one time and not at another")
            self._left = int(length) if length is not None else _ANY_LENGTH
            return int(length) if length is not None else None
        said = answer.headers.get("Content-Range", "")
        match = _RANGE.fullmatch(said.strip())
        first, last = (int(match[1]), int(match[2])) if match else (-1, -1)
        total = int(match[3]) if match and match[3] != "*" else None
        honest = (
            first == start
            and first <= last < start + n_bytes
            and (total is None or last < total)
            and (length is None or int(length) == last - first + 1)
        )
        if not honest:
            raise BadInput(
                f"{self.file.shown}: asked for bytes {start} to {start + n_bytes - 1}, the server answers with "
                f"{said[:60]!r} and a length of {length}",
                do="try another network or mirror; this server or a proxy in between does not keep to HTTP",
            )
        self._left = last - first + 1
        self.ranged = True
        return total


def _conditions(validator: str) -> dict[str, str]:
    kind, _, value = validator.partition(" ")
    if kind == "etag":
        return {"If-None-Match": value}
    return {"If-Modified-Since": value.rpartition(" ")[0]} if kind == "modified" else {}


def _validator(answer: Answer, size: int | None) -> str:
    """What tells this version of the file from another: its ETag, else its date and length, else nothing."""
    etag = (answer.headers.get("ETag") or "").strip()
    if etag and len(etag) < 256:
        return f"etag {etag}"
    date = (answer.headers.get("Last-Modified") or "").strip()
    return f"modified {date} {size}" if date and len(date) < 64 and size is not None else ""


def refusal(answer: Answer, what: str, gated: tuple[str, ...], near: tuple[str, ...] = ()) -> QwenopsError:
    """The error for a status that is not the file; `near` are commands with names that were probably meant."""
    status = answer.status
    if status in (401, 403):
        do = (*near, *gated)
        return PartMissing(f"{what} wants a login that was not given or is not enough (status {status})", do=do)
    if status in (404, 410):
        do = (*near, "look at the spelling, upper and lower case too")
        return BadInput(f"{what} is not there (status {status})", do=do)
    if status == 429:
        wait = answer.headers.get("Retry-After", "")
        return PartMissing(f"{what}: the server has had too many requests", do=f"wait {wait[:20] or 'a few minutes'}")
    if status == 407 or status >= 500:
        return PartMissing(
            f"{what}: the server or a proxy before it answers with status {status}", do="try again later"
        )
    return BadInput(f"{what}: the server answers with status {status}")


def web_page(what: str, gated: tuple[str, ...]) -> NotAGGUF:
    """The error for a page where a file was wanted."""
    return NotAGGUF(
        f"{what} is answered with a web page, not with a model: the address is wrong, or the file wants a login",
        do=gated or "give the address of the file itself",
    )


def file_name(url: str) -> str:
    """The file name in an address; "model.gguf" where it has none that can be one."""
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    return safe_name(name)


def safe_name(name: str) -> str:
    """A name that can lie in our folder: no separators, nothing hidden, of sane length."""
    kept = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]', "_", name).lstrip(".")[-200:]
    return kept or "model.gguf"
