"""What of huggingface_hub's cache may go: downloads that broke off, and whole ones that no model needs any more."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from qwenops.model.hub_cache import PART, cache_folder
from qwenops.waste import Waste, age, idle_seconds, status_of

_BLOBS = "models--*/blobs"


def half_downloads() -> tuple[Waste, ...]:
    """The downloads that qwenops began and did not end, but for those that go on at this moment."""
    parts = sorted(cache_folder().glob(f"{_BLOBS}/*{PART}"))
    return tuple(_part_waste(part) for part in parts if not _is_fetched(part))


def repo_of(file: Path) -> str | None:
    """OWNER/NAME where a file lies in the hub's cache, else None."""
    try:
        inside = file.relative_to(cache_folder().resolve())
    except ValueError:
        return None
    owner = inside.parts[0] if inside.parts else ""
    return owner.removeprefix("models--").replace("--", "/", 1) if owner.startswith("models--") else None


def remove_command(repo: str) -> str:
    """What to type to take a repository out of the hub's cache (huggingface_hub 1.0 and later)."""
    return f"hf cache rm model/{repo}"


def take_download(blob: Path) -> str:
    """Take one whole file and its names in the snapshots away; returns why it stayed, or an empty text."""
    repository = blob.parent.parent
    try:
        for name in names_of(blob):
            name.unlink()
            _remove_empty(name.parent, repository / "snapshots")
        blob.unlink(missing_ok=True)
        _tidy(repository)
    except OSError as error:
        return f"{error.filename}: {error.strerror or error}"
    return ""


def _tidy(repository: Path) -> None:
    """Leave what the library expects: no reference to a snapshot that is gone, no repository without a file."""
    for reference in sorted((repository / "refs").glob("**/*")):
        if reference.is_file() and not (repository / "snapshots" / reference.read_text("utf-8").strip()).is_dir():
            reference.unlink()
    if not any((repository / "blobs").iterdir()) and not any((repository / "snapshots").glob("*")):
        shutil.rmtree(repository)


def names_of(blob: Path) -> list[Path]:
    """The names that snapshots give a file: symbolic links, or hard links where the file system has no others."""
    found = []
    for name in sorted((blob.parent.parent / "snapshots").glob("*/**/*")):
        with contextlib.suppress(OSError):
            if name.is_file() and name.samefile(blob):
                found.append(name)
    return found


def _remove_empty(folder: Path, above: Path) -> None:
    while folder != above and above in folder.parents:
        try:
            folder.rmdir()
        except OSError:  # something else is in it
            return
        folder = folder.parent


def _part_waste(part: Path) -> Waste:
    repo = repo_of(part.resolve()) or "a repository"
    why = f"a download of {repo} stopped {age(idle_seconds(part))} ago; `qwenops up` would go on with it"
    return Waste("part", part, why, (part,), partial(_take_part, part))


def _take_part(part: Path) -> str:
    with _unless_fetched(part) as free:
        if not free:
            return "it is being fetched at this moment"
        try:
            part.unlink(missing_ok=True)
            Path(f"{part}.lock").unlink(missing_ok=True)
        except OSError as error:
            return f"{error.strerror or error}"
    return ""


def _is_fetched(part: Path) -> bool:
    # Asking for the lock makes its file: where none is, nobody holds it.
    if not Path(f"{part}.lock").exists():
        return False
    with _unless_fetched(part) as free:
        return not free


@contextlib.contextmanager
def _unless_fetched(part: Path) -> Iterator[bool]:
    """Hold the lock of a download while the block lasts; gives False where another process has it."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{part}.lock")
    try:
        lock.acquire(timeout=0)
    except (Timeout, NotImplementedError, OSError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def hub_bytes(repo: str) -> int:
    """What a repository takes in the cache."""
    folder = cache_folder() / f"models--{repo.replace('/', '--')}" / "blobs"
    return sum(status.st_size for status in map(status_of, folder.glob("*")) if status)
