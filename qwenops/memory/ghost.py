"""A ghost: a model file with its true header, its full length, and nothing in between.

llama.cpp works out memory from the header alone; it only checks that the file is long enough for its tensors
(src/llama-model-loader.cpp, b10434). So a model that was never downloaded can be asked about: its header is copied
byte for byte into a sparse file, which takes as much disk as the header.

Only header-only models need one. A model that lies here whole is asked about in place: the fit prints its table
before it reads weights, and a second file would add nothing but a way to fail.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qwenops.errors import BadInput, NotAllowed, PartMissing
from qwenops.model.types import Model
from qwenops.units import MIB, human, pad

PREFIX = "qwenops-ghost-"
LEFT_BEHIND_SECONDS = 600
_TRIAL_BYTES = 8 * MIB
_FIRST_READ_BYTES = MIB
# What a header-only copy may claim as its length while its header is read: the true one follows from the header.
_ANY_LENGTH = 1 << 60


@dataclass(frozen=True)
class Ghost:
    """What to hand to the runtime: `model` is the first shard. `sparse` is False where the real files are named."""

    model: Path
    projector: Path | None
    sparse: bool


@contextlib.contextmanager
def make_ghost(model: Model, folder: Path) -> Iterator[Ghost]:
    """Files that stand for `model` while the context lasts; nothing is left behind, however it ends.

    A model whose files lie here whole stands for itself. Raises PartMissing where `folder` cannot hold sparse files
    or its disk is full, NotAllowed where it may not be written, BadInput where a header is not to be found.
    """
    sweep(folder)
    projector = model.projector.path if model.projector else None
    lengths = {path: _lengths(path) for path in (*model.shards, *((projector,) if projector else ()))}
    if all(path.stat().st_size >= full for path, (_, full) in lengths.items()):
        yield Ghost(model.path, projector, sparse=False)
        return
    with ghost_folder(folder) as home:
        # Shards lie together under their own names: llama.cpp derives the others from the first.
        ghosts = {path: _ghost_of(path, home / "model", *lengths[path]) for path in model.shards}
        yield Ghost(
            model=ghosts[model.path],
            projector=_ghost_of(projector, home / "projector", *lengths[projector]) if projector else None,
            sparse=True,
        )


@contextlib.contextmanager
def ghost_folder(folder: Path) -> Iterator[Path]:
    """A folder of our own in `folder` that holds sparse files, removed however the context ends.

    Raises PartMissing where files there are never sparse, NotAllowed where it may not be written.
    """
    home = _own_folder(folder)
    try:
        _check_sparse(home)
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove ghosts that a killed run left in `folder`: those whose process is gone, and any that is too old."""
    for left in left_behind(folder):
        shutil.rmtree(left, ignore_errors=True)


def left_behind(folder: Path) -> list[Path]:
    """The ghosts in `folder` that nobody waits for any more."""
    left = []
    for ghost in folder.glob(f"{PREFIX}*") if folder.is_dir() else ():
        with contextlib.suppress(OSError):
            if time.time() - ghost.stat().st_mtime > LEFT_BEHIND_SECONDS or _owner_is_gone(ghost):
                left.append(ghost)
    return left


def _owner_is_gone(left: Path) -> bool:
    # On Windows a signal of 0 would end the process, so there only age counts.
    owner = left.name.removeprefix(PREFIX).partition("-")[0]
    if sys.platform == "win32" or not owner.isdigit():
        return False
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _own_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=folder))
    except PermissionError:
        raise NotAllowed(f"{folder} may not be written", do=f"ls -ld {folder}") from None
    except OSError as e:
        raise PartMissing(f"no folder can be made in {folder}: {e.strerror or e}", do=f"df -h {folder}") from None


def _lengths(path: Path) -> tuple[int, int]:
    """The length of a file's header and the length of the whole file, in bytes, from as much of it as is here."""
    from qwenops.model.gguf_header import NeedMore, parse_header

    wanted = _FIRST_READ_BYTES
    try:
        with path.open("rb") as file:
            prefix = b""
            while True:
                prefix += file.read(wanted - len(prefix))
                try:
                    header = parse_header(prefix, _ANY_LENGTH, path)
                    break
                except NeedMore as more:
                    if len(prefix) < wanted:
                        raise BadInput(
                            f"{path} ends inside its header, at byte {len(prefix)}", do="fetch the header again"
                        ) from None
                    wanted = max(more.at_least, 2 * wanted)
    except FileNotFoundError:
        raise BadInput(f"no such file: {path}", do=f"ls -l {path.parent}") from None
    except PermissionError:
        raise NotAllowed(f"{path} may not be read", do=f"ls -l {path}") from None
    data_bytes = max((pad(t.offset + t.size_bytes, header.alignment) for t in header.tensors), default=0)
    return header.data_offset, header.data_offset + data_bytes


def _ghost_of(path: Path, folder: Path, header_bytes: int, full_bytes: int) -> Path:
    ghost = folder / path.name
    try:
        folder.mkdir(exist_ok=True)
        with path.open("rb") as source, ghost.open("wb") as target:
            target.write(source.read(header_bytes))
            target.truncate(full_bytes)
    except OSError as e:
        raise PartMissing(
            f"a sparse file of {human(full_bytes)} cannot be made in {folder.parent.parent}: {e.strerror or e}",
            do=f"df -h {folder.parent.parent}",
        ) from None
    return ghost


def _check_sparse(home: Path) -> None:
    """Refuse a file system that would really fill a ghost, by a small file first."""
    trial = home / "trial"
    try:
        with trial.open("wb") as file:
            file.truncate(_TRIAL_BYTES)
        blocks = getattr(trial.stat(), "st_blocks", None)
        trial.unlink()
    except OSError as e:
        raise PartMissing(f"{home.parent} cannot be written: {e.strerror or e}", do=f"df -h {home.parent}") from None
    if blocks is None or blocks * 512 > _TRIAL_BYTES // 2:
        raise PartMissing(
            f"{home.parent} does not hold sparse files, so a model that is not here cannot be asked about there",
            do="set QWENOPS_HOME to a folder on a file system with sparse files, such as ext4, xfs, apfs or tmpfs",
        )
