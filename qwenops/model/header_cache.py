"""Headers of files that are not here, kept under what tells their versions apart. Safe to delete at any time.

Below the cache folder: headers/<digest of the address>/ holds the first bytes of the file, up to its data, under the
file's own name (a split model's shards are found by it), and about.json beside it. The address itself is not kept:
it may be signed. What a hub or registry listed is kept the same way, for working offline.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from qwenops import paths
from qwenops.errors import NotAllowed, OutOfReach, PartMissing

MOST_BYTES = 1024**3
"""Room for every quant of several repositories; a header with a vocabulary takes 6 to 11 MiB."""
_FORMAT = 1
_WRITING_S = 3600.0
"""No write of a header takes so long: what has no description by then was left by one that was killed."""
_ABOUT, _LISTING = "about.json", "listing.json"


class Measured(Protocol):
    """What is kept of a header beside its bytes: the whole file's length, and a checksum of the header."""

    @property
    def file_bytes(self) -> int:
        """The length of the whole file."""

    @property
    def data_offset(self) -> int:
        """Where the header ends."""

    @property
    def checksum(self) -> int:
        """The CRC-32 of the header."""


@dataclass(frozen=True)
class Kept:
    """A header that was read before: where its bytes are, whose version it is, how long the whole file is."""

    path: Path
    validator: str
    file_bytes: int
    checksum: int
    format: int = _FORMAT


def folder() -> Path:
    """Where the headers are."""
    return paths.cache_dir() / "headers"


def every() -> Iterator[Kept]:
    """Every header that is kept, the one that was used last first; what is damaged is left out."""
    used = {about: about.stat().st_mtime for about in folder().glob(f"*/{_ABOUT}")}
    for about in sorted(used, key=lambda one: -used[one]):
        kept = _described(about.parent)
        if kept is not None:
            yield kept


def find(url: str) -> Kept | None:
    """What is kept of an address, or None: also where it is damaged, since it can be read again."""
    kept = _described(_place(url))
    if kept is not None:
        with contextlib.suppress(OSError):
            os.utime(kept.path.parent / _ABOUT)
    return kept


def keep(
    url: str,
    name: str,
    validator: str,
    prefix: bytes | bytearray,
    header: Measured,
    *,
    most_bytes: int = MOST_BYTES,
) -> Path:
    """Put a header away and return the file with its bytes; what was used longest ago makes room for it.

    Raises NotAllowed or PartMissing where that cannot be.
    """
    place = _place(url)
    about = asdict(Kept(Path(), validator, header.file_bytes, header.checksum)) | {"name": name}
    del about["path"]
    try:
        place.mkdir(parents=True, exist_ok=True)
        for old in place.iterdir():
            if old.name not in (name, _ABOUT) and not old.name.startswith(".half-"):
                old.unlink(missing_ok=True)
        _write(place / name, memoryview(prefix)[: header.data_offset])
        _write(place / _ABOUT, json.dumps(about).encode())
    except PermissionError:
        raise NotAllowed(f"{place} may not be written", do="set QWENOPS_HOME to a folder of your own") from None
    except OSError as e:
        raise PartMissing(f"a header cannot be kept in {place}: {e.strerror or e}", do=f"df -h {folder()}") from None
    _forget_oldest(place, most_bytes)
    return place / name


def find_listing(url: str) -> Any | None:
    """The listing kept of an address, or None."""
    kept = _place(url) / _LISTING
    try:
        found = json.loads(kept.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    with contextlib.suppress(OSError):
        os.utime(kept)
    return found


def listing(url: str, what: str, ask: Callable[[], Any], *, offline: bool) -> Any:
    """A listing as `ask` gives it, which is kept; with `offline` the one that was kept before.

    Raises OutOfReach where nothing was.
    """
    if not offline:
        asked = ask()
        keep_listing(url, asked)
        return asked
    kept = find_listing(url)
    if kept is None:
        raise OutOfReach(f"{what} was not read before, and the network is not to be used", do="without --offline")
    return kept


def keep_listing(url: str, listing: Any) -> None:
    """Put a listing away. One that cannot be written is no error: it is asked for again."""
    with contextlib.suppress(OSError):
        _place(url).mkdir(parents=True, exist_ok=True)
        _write(_place(url) / _LISTING, json.dumps(listing).encode())


def unused(older_than_s: float) -> tuple[Path, ...]:
    """The folders of headers and listings that nobody read for so long, and those with nothing in them to be found."""
    places = sorted(folder().iterdir()) if folder().is_dir() else []
    return tuple(place for place in places if is_unused(place, older_than_s))


def is_unused(place: Path, older_than_s: float) -> bool:
    """Whether nobody read what is in one of the folders for so long, or it can never be found."""
    try:
        files = [file for file in place.iterdir() if not file.name.startswith(".half-")]
        used = max((file.stat().st_mtime for file in files), default=place.stat().st_mtime)
    except OSError:
        return False
    findable = any(file.name in (_ABOUT, _LISTING) for file in files)
    return time.time() - used > (older_than_s if findable else _WRITING_S)


def _described(place: Path) -> Kept | None:
    try:
        about = json.loads((place / _ABOUT).read_text("utf-8"))
        name = about.pop("name")
        kept = Kept(path=place / name, **about)
        return kept if Path(name).name == name and kept.format == _FORMAT and kept.path.is_file() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _place(url: str) -> Path:
    return folder() / hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _write(path: Path, data: bytes | memoryview) -> None:
    handle, half_written = tempfile.mkstemp(dir=path.parent, prefix=".half-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(half_written, path)
    except BaseException:
        os.unlink(half_written)
        raise


def _forget_oldest(but: Path, most_bytes: int) -> None:
    """Keep the folder below its bound; what was used last goes last, and what was just written stays."""
    sizes: list[tuple[float, int, Path]] = []
    for place in folder().iterdir():
        with contextlib.suppress(OSError):
            files = [f.stat() for f in place.iterdir()]
            sizes.append((max((s.st_mtime for s in files), default=0.0), sum(s.st_size for s in files), place))
    total = sum(size for _, size, _ in sizes)
    for _, size, place in sorted(sizes):
        if total <= most_bytes:
            break
        if place != but:
            shutil.rmtree(place, ignore_errors=True)
            total -= size
