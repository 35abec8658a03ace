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
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from qwenops.errors import BadInput, CheckFailed, PartMissing, QwenopsError
from qwenops.model import hub
from qwenops.model.read import read_model
from qwenops.model.remote import RemoteFile, refusal, web_page
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
class Piece:
    """One file of a repository: a shard or the projector. `sha256` is the listing's, None for a small plain file."""

    reference: hub.HubReference
    path: str
    remote: RemoteFile
    sha256: str | None

    @property
    def name(self) -> str:
        """The file's own name."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True)
class Brought:
    """A model whose files are here, and the digests that came with them, by file."""

    model: Model
    sha256: dict[Path, str]
    fetched_bytes: int


@dataclass
class _Counter:
    """How much has arrived, over all files at once; also how a user's Ctrl-C reaches those who fetch."""

    progress: Progress
    total: int
    done: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, n_bytes: int, what: str) -> None:
        """Count bytes; raises KeyboardInterrupt in the fetching thread once the command was stopped."""
        if self.stop.is_set():
            raise KeyboardInterrupt
        with self.lock:
            self.done += n_bytes
            self.progress(what, self.done, self.total)


def bring(model: Model, *, offline: bool = False, progress: Progress = lambda *_: None) -> Brought:
    """Every file of a model that is on the hub, and of its projector, in the library's cache; nothing else of the repo.

    What is there already is not fetched again; what broke off goes on where it did. Raises BadInput for a model that
    is not on the hub, PartMissing where the hub is out of reach, wants a login, or the disk is too small, CheckFailed
    where what came is not what the hub has listed.
    """
    pieces = pieces_of(model, offline=offline)
    projectors = [p for p in pieces if "mmproj" in p.name.lower()]
    missing = [p for p in pieces if not offline and _blob(p) is not None and not _is_here(p)]
    _check_disk(missing)
    fetched = _fetch(missing, progress) if missing else 0
    paths = {piece: _linked(piece, offline=offline) for piece in pieces}
    shards = [paths[p] for p in pieces if p not in projectors]
    here = read_model(shards[0], paths[projectors[0]] if projectors else None)
    if here.header.checksum != model.header.checksum:
        raise CheckFailed(
            f"{shards[0]} is not the file whose header was read at {model.source}: it changed meanwhile",
            do="run the command again",
        )
    # the plan was made under the name that the repository's file gives
    here = replace(here, name=model.name, quant=model.quant)
    return Brought(here, {paths[p]: p.sha256 for p in pieces if p.sha256}, fetched)


def missing_bytes(model: Model, *, offline: bool = False) -> int:
    """How much of a model would have to be fetched."""
    return sum(_left(p) for p in pieces_of(model, offline=offline) if not _is_here(p))


def pieces_of(model: Model, *, offline: bool = False) -> tuple[Piece, ...]:
    """The files of a model on the hub: its shards in order, then its projector.

    Raises BadInput where it is elsewhere.
    """
    sources = [model.remote, *([model.projector.remote] if model.projector else [])]
    pieces: list[Piece] = []
    for source in sources:
        if source is None or not source.startswith("hf:"):
            from qwenops.model.reference import download

            raise BadInput(f"{source or model.source} is not on the hub", do=download(source) if source else ())
        reference = hub.parse_hub(source)
        files = {f.path: f for f in hub.list_files(reference, offline=offline)}
        where = PurePosixPath(reference.wanted)
        for name in shard_names(where.name):
            path = str(where.with_name(name))
            if path not in files:
                raise BadInput(f"{reference.shown(path)} is not in the repository", do="take another quant")
            content = files[path].content or ""
            sha256 = content.removeprefix(_SHA256) if content.startswith(_SHA256) else None
            pieces.append(Piece(reference, path, hub.remote_file(reference, files[path]), sha256))
    return tuple(pieces)


# --- the library's cache ----------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where huggingface_hub keeps files: HF_HUB_CACHE, HF_HOME/hub, or its own default."""
    constants = _library().constants
    own = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    home = os.environ.get("HF_HOME")
    found = own or (os.path.join(home, "hub") if home else constants.HF_HUB_CACHE)
    return Path(os.path.expandvars(found)).expanduser()


def _library() -> Any:
    """huggingface_hub, told before it is read that nothing but what was asked for leaves this machine."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import huggingface_hub
    import huggingface_hub.constants
    import huggingface_hub.errors
    import huggingface_hub.utils

    return huggingface_hub


def _blob(piece: Piece) -> Path | None:
    """Where the library looks for a large file: under its digest, which is the hub's name for it."""
    if piece.sha256 is None:
        return None
    folder = cache_folder() / f"models--{piece.reference.repo.replace('/', '--')}" / "blobs"
    return folder / piece.sha256


def _is_here(piece: Piece) -> bool:
    blob = _blob(piece)
    return blob is not None and blob.exists() and blob.stat().st_size == (piece.remote.size_bytes or -1)


def _linked(piece: Piece, *, offline: bool) -> Path:
    """Let the library give the file its name; a small plain file it fetches too."""
    library, token = _library(), hub.token()
    library.utils.disable_progress_bars()
    try:
        path = library.hf_hub_download(
            piece.reference.repo,
            piece.path,
            revision=piece.reference.revision,
            cache_dir=cache_folder(),
            endpoint=hub.endpoint(),
            token=token.secret if token else False,
            local_files_only=offline,
        )
    except Exception as e:  # the library's errors come from several trees
        raise _trouble(piece, e) from None
    return Path(path)


def _trouble(piece: Piece, cause: Exception) -> QwenopsError:
    errors = _library().errors
    what = piece.remote.shown
    if isinstance(cause, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return PartMissing(
            f"{what} was not brought here before, and the network is not to be used", do="without --offline"
        )
    if isinstance(cause, errors.GatedRepoError | errors.RepositoryNotFoundError):
        return PartMissing(f"{what} wants a login that was not given or is not enough", do=piece.remote.gated)
    if isinstance(cause, errors.EntryNotFoundError):
        return BadInput(f"{what} is not in the repository any more", do="run the command again")
    if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
        return _disk_full(cache_folder(), cause)
    return PartMissing(f"{what} could not be brought here: {_first_line(cause)}", do="try again later")


def _first_line(cause: Exception) -> str:
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]


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
    blob = _blob(piece)
    return blob.with_name(f"{blob.name}.qwenops.incomplete") if blob else None


def _fetch(pieces: Sequence[Piece], progress: Progress) -> int:
    """Fetch some files at once; the first that fails stops the others. Returns the bytes that came."""
    counter = _Counter(progress, sum(_left(p) for p in pieces))
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        waiting = [pool.submit(_fetch_one, piece, counter) for piece in pieces]
        for each in waiting:
            each.result()
    except BaseException:
        counter.stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()
    return counter.done


def _fetch_one(piece: Piece, counter: _Counter) -> None:
    from filelock import FileLock

    blob, part = _blob(piece), _part(piece)
    assert blob is not None
    assert part is not None
    try:
        blob.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{part}.lock"):
            if not _is_here(piece):
                _fill(piece, part, counter)
                with part.open("rb+") as file:
                    os.fsync(file.fileno())
                part.replace(blob)
        with contextlib.suppress(OSError):
            Path(f"{part}.lock").unlink()
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(blob.parent, e) from None
        raise PartMissing(f"{blob.parent} cannot be written: {e.strerror or e}", do=f"ls -ld {blob.parent}") from None


def _disk_full(folder: Path, cause: OSError) -> PartMissing:
    return PartMissing(
        f"{folder}: {cause.strerror or 'the disk is full'}; what has come is kept",
        do="make room and run the command again: it goes on where it stopped",
    )


def _fill(piece: Piece, part: Path, counter: _Counter) -> None:
    """Append to the part what is missing, over as many connections as it takes, and compare the digest."""
    size, hasher = piece.remote.size_bytes or 0, hashlib.sha256()
    with part.open("ab+") as file:
        file.seek(0)
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
        if file.tell() > size:
            _start_over(file)
            hasher = hashlib.sha256()
        tries = 0
        while file.tell() < size:
            before, broke = file.tell(), None
            try:
                hasher = _append(piece, file, hasher, counter)
            except PartMissing as e:
                broke = e
            tries = 0 if file.tell() > before else tries + 1
            if tries == _TRIES:
                raise broke or PartMissing(f"{piece.remote.shown}: the connection breaks off", do="try again later")
            if file.tell() < size:
                time.sleep(min(2**tries, 20) / 4)
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
    with get(piece.remote.url, headers=headers, token=piece.remote.token, limits=PATIENCE) as answer:
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
