"""huggingface_hub's own cache as qwenops uses it: where a file of a repository lies, whether it is here, its name.

Layout, locks and links are the library's (1.0 and later); nothing of them is written here except the links of a file
system that has no symbolic ones, where the library would copy the whole file.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from qwenops.errors import BadInput, PartMissing, QwenopsError
from qwenops.model import hub
from qwenops.model.remote import RemoteFile

PART: Final = ".qwenops.incomplete"
"""What the name of a half download of ours ends in; the library's own end in .incomplete alone."""
_LINK_TRIES: Final = 3


@dataclass(frozen=True)
class Piece:
    """One file of a repository: a shard or the projector. `sha256` is the listing's, None for a small plain file.

    `commit` is the state of the repository that was listed: that one is brought, and no later one.
    """

    reference: hub.HubReference
    path: str
    remote: RemoteFile
    sha256: str | None
    is_projector: bool = False
    commit: str | None = None

    @property
    def name(self) -> str:
        """The file's own name."""
        return PurePosixPath(self.path).name

    @property
    def revision(self) -> str | None:
        """The commit, or what the user named where the hub said none; None is the main branch."""
        return self.commit or self.reference.revision


def cache_folder() -> Path:
    """Where huggingface_hub keeps files: HF_HUB_CACHE, HF_HOME/hub, or its own default."""
    constants = hub_library().constants
    own = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    home = os.environ.get("HF_HOME")
    found = own or (os.path.join(home, "hub") if home else constants.HF_HUB_CACHE)
    return Path(os.path.expandvars(found)).expanduser()


def hub_library() -> Any:
    """huggingface_hub, told before it is read that nothing but what was asked for leaves this machine."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import huggingface_hub
    import huggingface_hub.constants
    import huggingface_hub.errors
    import huggingface_hub.utils

    return huggingface_hub


def blob_of(piece: Piece) -> Path | None:
    """Where the library looks for a large file: under its digest, which is the hub's name for it."""
    if piece.sha256 is None:
        return None
    return _folder_of(piece) / "blobs" / piece.sha256


def _folder_of(piece: Piece) -> Path:
    return cache_folder() / f"models--{piece.reference.repo.replace('/', '--')}"


def is_here(piece: Piece) -> bool:
    """Whether the file lies where the library has it: under its digest, or, without one, under its own name."""
    blob, size = blob_of(piece) or named_in_cache(piece), piece.remote.size_bytes
    return blob is not None and blob.exists() and size in (None, blob.stat().st_size)


def named_in_cache(piece: Piece) -> Path | None:
    """The file under its own name in the library's cache, or None."""
    found = hub_library().try_to_load_from_cache(
        piece.reference.repo, piece.path, cache_dir=cache_folder(), revision=piece.revision
    )
    return Path(found) if isinstance(found, str) else None


def linked(piece: Piece, *, offline: bool) -> Path:
    """Let the library give the file its name; a small plain file it fetches too."""
    library, token = hub_library(), hub.token()
    library.utils.disable_progress_bars()
    if not offline:
        with contextlib.suppress(Exception):  # what stands in the way is said by the library itself, below
            _link_hard(library, piece)
    elif named := _named_before(piece):
        return named
    for tries_left in reversed(range(_LINK_TRIES)):
        try:
            path = library.hf_hub_download(
                piece.reference.repo,
                piece.path,
                revision=piece.revision,
                cache_dir=cache_folder(),
                endpoint=hub.endpoint(),
                token=token.secret if token else False,
                local_files_only=offline,
            )
            _name_commit(piece)
            return Path(path)
        except Exception as e:  # the library's errors come from several trees
            # the first releases do not ask again on a connection that the hub has closed meanwhile
            if not tries_left or not _passes(library, e):
                raise _trouble(piece, e) from None
    raise AssertionError("the last try returns or raises")


def _named_before(piece: Piece) -> Path | None:
    """The file under the name that another commit gave it: a newer one may have been listed and never brought."""
    blob = blob_of(piece)
    if blob is None or not blob.exists():
        return None
    named = (_folder_of(piece) / "snapshots").glob(f"*/{glob.escape(piece.path)}")
    return next((path for path in sorted(named) if path.exists() and path.samefile(blob)), None)


def _name_commit(piece: Piece) -> None:
    """Note which commit the main branch is at, as the library does where it is asked for that: other tools look there
    when they are offline."""
    if piece.commit is None or piece.reference.revision is not None:
        return
    ref = _folder_of(piece) / "refs" / "main"
    with contextlib.suppress(OSError):  # it spares a question later, nothing more
        if not ref.exists() or ref.read_text() != piece.commit:
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(piece.commit)


def _link_hard(library: Any, piece: Piece) -> None:
    """Where there are no symbolic links the library copies a blob to its name: a hard link saves the second copy."""
    from huggingface_hub.file_download import are_symlinks_supported

    blob, folder = blob_of(piece), cache_folder()
    if blob is None or not blob.exists() or are_symlinks_supported(folder):
        return
    token = hub.token()
    known = library.get_hf_file_metadata(piece.remote.url, token=token.secret if token else False)
    if known.commit_hash and known.etag == piece.sha256:
        name = blob.parent.parent / "snapshots" / known.commit_hash / piece.path
        name.parent.mkdir(parents=True, exist_ok=True)
        os.link(blob, name)


def _passes(library: Any, cause: Exception) -> bool:
    """Whether a failure of the line: neither an answer of the hub nor one of this machine's disk."""
    return not isinstance(cause, OSError | ValueError | library.errors.HfHubHTTPError)


def _trouble(piece: Piece, cause: Exception) -> QwenopsError:
    errors = hub_library().errors
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
        return disk_full(cache_folder(), cause)
    return PartMissing(f"{what} could not be brought here: {_first_line(cause)}", do="try again later")


def _first_line(cause: Exception) -> str:
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]


def disk_full(folder: Path, cause: OSError) -> PartMissing:
    """The error of a write that found no more room."""
    return PartMissing(
        f"{folder}: {cause.strerror or 'the disk is full'}; what has come is kept",
        do="make room and run the command again: it goes on where it stopped",
    )
