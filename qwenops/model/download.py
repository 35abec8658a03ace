"""Bring a model from the hub into huggingface_hub's own cache: resumed where it broke off, hashed while it arrives.

The cache, its layout and its links are huggingface_hub's, so every other tool that uses the hub finds the files too,
and files that such a tool brought are not fetched again. Only the bytes of large files are fetched here, into the place
where the library looks for them: the library (2.x) begins anew after a broken connection, and a model is 5 to 50 GiB.
The digest that the hub's listing gives is compared as the file arrives, and is the one that Ollama wants later.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from qwenops.errors import BadInput, CheckFailed, PartMissing
from qwenops.model import hub
from qwenops.model.hub_cache import PART, Piece, blob_of, cache_folder, disk_full, is_here, linked
from qwenops.model.read import read_model
from qwenops.model.remote import refusal, web_page
from qwenops.model.split import shard_names
from qwenops.model.types import Model
from qwenops.model.web import Answer, Limits, get
from qwenops.units import MIB, human

Progress = Callable[[str, int, int], None]
"""What is being done, bytes done, bytes in all."""

PATIENCE: Final = Limits(stall_s=30, total_s=24 * 3600)
KEPT_FREE_BYTES: Final = 512 * MIB
"""What stays free on the disk beyond the files."""

_AT_ONCE: Final = 3
_TRIES: Final = 5
_CHUNK_BYTES: Final = MIB
_SHA256: Final = "sha256 "


@dataclass(frozen=True)
class Brought:
    """A model whose files are here: `sha256` of those that were hashed on their way, `listed` as the hub has it of
    those that were here before, which nobody compared yet."""

    model: Model
    sha256: dict[Path, str]
    listed: dict[Path, str]
    fetched_bytes: int


@dataclass
class _Counter:
    """How much has arrived, over all files at once; also how a user's Ctrl-C reaches those who fetch."""

    progress: Progress
    total: int
    done: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    heard: set[Answer] = field(default_factory=set)

    def end(self) -> None:
        """Stop everyone who fetches, also those whom a server keeps waiting."""
        self.stop.set()
        with self.lock:
            for answer in self.heard:
                answer.hang_up()

    @contextlib.contextmanager
    def hearing(self, answer: Answer) -> Iterator[None]:
        """While this answer is read, it ends with the others."""
        with self.lock:
            self.heard.add(answer)
        try:
            yield
        finally:
            with self.lock:
                self.heard.discard(answer)

    def add(self, n_bytes: int, what: str) -> None:
        """Count bytes; raises KeyboardInterrupt in the fetching thread once the command was stopped."""
        if self.stop.is_set():
            raise KeyboardInterrupt
        with self.lock:
            self.done += n_bytes
            self.progress(what, self.done, self.total)


def bring(
    model: Model,
    *,
    pieces: Sequence[Piece] | None = None,
    offline: bool = False,
    progress: Progress = lambda *_: None,
) -> Brought:
    """Every file of a model that is on the hub, and of its projector, in the library's cache; nothing else of the repo.

    What is there already is not fetched again; what broke off goes on where it did. `pieces` are those of pieces_of,
    where they were asked for before. Raises BadInput for a model that is not on the hub, PartMissing where the hub is
    out of reach, wants a login, or the disk is too small, CheckFailed where what came is not what the hub has listed.
    """
    offline = offline or hub.hub_offline()
    pieces = pieces_of(model, offline=offline) if pieces is None else pieces
    missing = [p for p in pieces if not offline and p.sha256 and p.remote.size_bytes and not is_here(p)]
    _check_disk(missing)
    fetched = _fetch(missing, progress) if missing else 0
    paths = {piece: linked(piece, offline=offline) for piece in pieces}
    shards = [paths[p] for p in pieces if not p.is_projector]
    projector = next((paths[p] for p in pieces if p.is_projector), None)
    if projector is None and model.projector:
        projector = model.projector.path  # it was here all along
    here = read_model(shards[0], projector)
    if here.header.checksum != model.header.checksum:
        raise CheckFailed(
            f"{shards[0]} is not the file whose header was read at {model.source}: it changed meanwhile",
            do="run the command again",
        )
    # the plan was made under the name that the repository's file gives
    here = replace(here, name=model.name, quant=model.quant)
    digests = {p: p.sha256 for p in pieces if p.sha256}
    hashed = {paths[p]: sha256 for p, sha256 in digests.items() if p in missing}
    listed = {paths[p]: sha256 for p, sha256 in digests.items() if p not in missing}
    return Brought(here, hashed, listed, fetched)


def fetch(piece: Piece, *, offline: bool = False, progress: Progress = lambda *_: None) -> Path:
    """One file of the hub in the library's cache, under its digest and without a name where it is a large one.

    Raises as bring does.
    """
    blob = blob_of(piece)
    if blob is None:
        return linked(piece, offline=offline)
    if not is_here(piece):
        if offline or hub.hub_offline():
            raise PartMissing(
                f"{piece.remote.shown} is not here, and the network is not to be used", do="without --offline"
            )
        _check_disk([piece])
        _fetch([piece], progress)
    return blob


def missing_bytes(pieces: Sequence[Piece]) -> int:
    """How much of some files would have to be fetched."""
    return sum(_left(p) for p in pieces if not is_here(p))


def pieces_of(model: Model, *, offline: bool = False) -> tuple[Piece, ...]:
    """The files of a model on the hub: its shards in order, then its projector.

    Asks each repository once. Raises BadInput where a file is elsewhere.
    """
    offline = offline or hub.hub_offline()
    listings: dict[tuple[str, str | None], dict[str, hub.HubFile]] = {}
    sources = [(model.remote, False)]
    if model.projector and (model.projector.remote or not model.remote):
        sources.append((model.projector.remote, True))
    pieces: list[Piece] = []
    for source, is_projector in sources:
        if source is None or not source.startswith("hf:"):
            from qwenops.model.reference import download

            raise BadInput(f"{source or model.source} is not on the hub", do=download(source) if source else ())
        reference = hub.parse_hub(source)
        key = (reference.repo, reference.revision)
        if key not in listings:
            listings[key] = {f.path: f for f in hub.list_files(reference, offline=offline)}
        files = listings[key]
        where = PurePosixPath(reference.wanted)
        for name in shard_names(where.name):
            path = str(where.with_name(name))
            if path not in files:
                raise BadInput(f"{reference.shown(path)} is not in the repository", do="take another quant")
            content = files[path].content or ""
            sha256 = content.removeprefix(_SHA256) if content.startswith(_SHA256) else None
            remote, commit = hub.remote_file(reference, files[path]), files[path].commit
            pieces.append(Piece(reference, path, remote, sha256, is_projector, commit))
    return tuple(pieces)


# --- the bytes --------------------------------------------------------------------------------------------------------


def _check_disk(pieces: Sequence[Piece]) -> None:
    wanted = sum(_left(p) for p in pieces)
    if not wanted:
        return
    folder = cache_folder()
    there = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(there).free
    if free < wanted + KEPT_FREE_BYTES:
        raise PartMissing(
            f"{human(wanted)} are to be brought into {folder}, where {human(free)} are free",
            do=("make room there", "or take another disk: export HF_HOME=/path/on/it"),
        )


def _left(piece: Piece) -> int:
    part = _part(piece)
    have = part.stat().st_size if part is not None and part.exists() else 0
    return max(0, (piece.remote.size_bytes or 0) - have)


def _part(piece: Piece) -> Path | None:
    blob = blob_of(piece)
    return blob.with_name(f"{blob.name}{PART}") if blob else None


def _fetch(pieces: Sequence[Piece], progress: Progress) -> int:
    """Fetch some files at once; the first that fails stops the others. Returns the bytes that came."""
    counter = _Counter(progress, sum(_left(p) for p in pieces))
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        waiting = [pool.submit(_fetch_one, piece, counter) for piece in pieces]
        for each in waiting:
            each.result()
    except BaseException:
        counter.end()
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()
    return counter.done


@contextlib.contextmanager
def _locked(path: Path, counter: _Counter) -> Iterator[None]:
    """Wait until no other process fetches the same file, and no longer than the command runs."""
    from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

    lock: BaseFileLock = FileLock(path)
    while True:
        try:
            lock.acquire(timeout=0.5)
            break
        except Timeout:
            counter.add(0, "waiting for another process that fetches the same file")
        except NotImplementedError:  # a file system without locks
            lock = SoftFileLock(path)
    try:
        yield
    finally:
        lock.release()


def _fetch_one(piece: Piece, counter: _Counter) -> None:
    blob, part = blob_of(piece), _part(piece)
    assert blob is not None
    assert part is not None
    try:
        blob.parent.mkdir(parents=True, exist_ok=True)
        with _locked(Path(f"{part}.lock"), counter):
            if not is_here(piece):
                _fill(piece, part, counter)
                with part.open("rb+") as file:
                    os.fsync(file.fileno())
                part.replace(blob)
        with contextlib.suppress(OSError):
            Path(f"{part}.lock").unlink()
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(blob.parent, e) from None
        raise PartMissing(f"{blob.parent} cannot be written: {e.strerror or e}", do=f"ls -ld {blob.parent}") from None


def _fill(piece: Piece, part: Path, counter: _Counter) -> None:
    """Append to the part what is missing, over as many connections as it takes, and compare the digest."""
    size, hasher = piece.remote.size_bytes or 0, hashlib.sha256()
    with part.open("ab+") as file:
        file.seek(0)
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
            counter.add(0, f"{piece.name}: reading what has come before")
        if file.tell() > size:
            _start_over(file)
            hasher = hashlib.sha256()
        tries, furthest = 0, file.tell()
        while file.tell() < size:
            broke = None
            counter.add(0, piece.name)
            try:
                hasher = _append(piece, file, hasher, counter)
            except PartMissing as e:
                if e.do == piece.remote.gated:  # a login that is missing is missing the next time too
                    raise
                broke = e
            # a server that begins from the start each time, or has less than was listed, never comes further
            tries = 0 if file.tell() > furthest else tries + 1
            furthest = max(furthest, file.tell())
            if tries == _TRIES:
                raise broke or PartMissing(
                    f"{piece.remote.shown}: no more than {furthest} of {size} bytes come", do="try again later"
                )
            if file.tell() < size:
                counter.stop.wait(min(2**tries, 20) / 4)
    if hasher.hexdigest() != piece.sha256:
        part.unlink()
        raise CheckFailed(
            f"{piece.remote.shown} came with the digest {hasher.hexdigest()[:12]}…, "
            f"the hub has {(piece.sha256 or '')[:12]}…",
            do=("run the command again", "or look at HF_ENDPOINT and at proxies in between: one of them changes files"),
        )


def _start_over(file: Any) -> None:
    file.truncate(0)
    file.seek(0)


def _append(piece: Piece, file: Any, hasher: Any, counter: _Counter) -> Any:
    """One connection's worth. Returns the hasher, a new one where the server begins from the start."""
    start, size = file.tell(), piece.remote.size_bytes or 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    with (
        get(piece.remote.url, headers=headers, token=piece.remote.token, limits=PATIENCE) as answer,
        counter.hearing(answer),
    ):
        if answer.status == 416 or (start and answer.status == 200):
            _start_over(file)
            counter.add(-start, piece.name)
            hasher, start = hashlib.sha256(), 0
            if answer.status == 416:
                return hasher
        _check_answer(piece, answer, start, size)
        for chunk in _chunks(answer):
            file.write(chunk)
            hasher.update(chunk)
            counter.add(len(chunk), piece.name)
            if file.tell() > size:
                raise BadInput(f"{piece.remote.shown} is longer than the {size} bytes that the hub has listed")
        file.flush()
    return hasher


def _chunks(answer: Answer) -> Iterator[bytes]:
    while chunk := answer.read(_CHUNK_BYTES):
        yield chunk


def _check_answer(piece: Piece, answer: Answer, start: int, size: int) -> None:
    what = piece.remote
    if answer.status not in (200, 206):
        raise refusal(answer, what.shown, what.gated)
    if answer.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise web_page(what.shown, what.gated)
    said = answer.headers.get("Content-Range", "").strip()
    if answer.status == 206 and said != f"bytes {start}-{size - 1}/{size}":
        raise BadInput(
            f"{what.shown}: asked for the bytes from {start} on of {size}, the server answers with {said[:60]!r}",
            do="try another network or mirror; this server or a proxy in between does not keep to HTTP",
        )
