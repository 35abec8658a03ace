"""A repository of the Hugging Face hub: which GGUF files it has, and where each is read.

One request lists the files with their sizes and digests (the same one that huggingface_hub's model_info makes); the
digest then tells whether a kept header is still true without asking again. HF_ENDPOINT, HF_TOKEN and the token file
are read as huggingface_hub reads them; huggingface_hub itself may refresh tokens and look for versions on the way.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from qwenops.errors import BadInput, PartMissing
from qwenops.model import header_cache
from qwenops.model.nearby import like, repositories_like
from qwenops.model.quants import label_in_name
from qwenops.model.remote import FIRST_BYTES, SMALL_BYTES, RemoteFile, refusal, safe_name
from qwenops.model.split import shard_names
from qwenops.model.web import Limits, Token, check_url, get, origin_of

_REFERENCE = re.compile(
    r"hf:(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@(?P<revision>[\w./-]{1,200}))?(?::(?P<wanted>.+))?",
    re.ASCII,
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TRUE = {"1", "ON", "YES", "TRUE"}
_LISTING_BYTES = 16 * 1024**2
_LISTED = (".gguf", ".safetensors", ".json")
_BESIDE_MODELS = ("mmproj", "imatrix", "adapter", "lora", "vocab")
MOST_VARIANTS = 64


@dataclass(frozen=True)
class HubReference:
    """A repository, and what is wanted of it: a file, a quant, or everything ("")."""

    repo: str
    revision: str | None = None
    wanted: str = ""

    def __str__(self) -> str:
        return self.shown(self.wanted)

    def shown(self, file: str) -> str:
        """The reference of one file of the repository."""
        revision = f"@{self.revision}" if self.revision else ""
        return f"hf:{self.repo}{revision}" + (f":{file}" if file else "")


@dataclass(frozen=True)
class HubFile:
    """One file of a listing. `commit` is the state of the repository that was listed, None where the hub has none."""

    path: str
    size_bytes: int | None
    content: str | None
    commit: str | None = None


def endpoint() -> str:
    """The hub's address, without a slash at its end."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def hub_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids to ask."""
    return (os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or "").upper() in _TRUE


def token() -> Token | None:
    """The user's token for the hub, and for nobody else; None where there is none."""
    if os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in _TRUE:
        return None
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if secret := _clean(os.environ.get(name, "")):
            return Token(secret, origin_of(endpoint()))
    try:
        with _token_file().open(encoding="utf-8") as file:
            secret = _clean(file.read(4096))
    except (OSError, UnicodeDecodeError):
        return None
    return Token(secret, origin_of(endpoint())) if secret else None


def _token_file() -> Path:
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(os.path.expandvars(os.environ.get("HF_TOKEN_PATH") or os.path.join(home, "token"))).expanduser()


def _clean(secret: str) -> str:
    # a line break inside would be a header of its own
    return secret.replace("\r", "").replace("\n", "").strip()


def parse_hub(text: str) -> HubReference:
    """Read hf:OWNER/REPO[@REVISION][:FILE-or-QUANT]. Raises BadInput for anything else."""
    match = _REFERENCE.fullmatch(text)
    if not match:
        raise BadInput(
            f"{text!r} is not the name of a repository", do="give it like hf:OWNER/REPO or hf:OWNER/REPO:Q4_K_M"
        )
    return HubReference(match["repo"], match["revision"], match["wanted"] or "")


def hub_address(url: str) -> HubReference | None:
    """The reference that an address on the hub's own pages stands for, or None."""
    if origin_of(check_url(url)) != origin_of(endpoint()):
        return None
    base = urlsplit(endpoint()).path
    parts = unquote(urlsplit(url).path.removeprefix(base)).strip("/").split("/")
    if len(parts) == 2:
        return parse_hub(f"hf:{'/'.join(parts)}")
    if len(parts) < 5 or parts[2] not in ("resolve", "blob", "raw"):
        return None
    revision = None if parts[3] == "main" else parts[3]
    return HubReference("/".join(parts[:2]), revision, "/".join(parts[4:]))


def list_files(reference: HubReference, *, offline: bool, limits: Limits | None = None) -> tuple[HubFile, ...]:
    """The GGUF files of a repository, by one request. Raises BadInput or PartMissing, saying what stands in the way."""
    return tuple(f for f in list_all_files(reference, offline=offline, limits=limits) if _ends(f.path, ".gguf"))


def list_all_files(reference: HubReference, *, offline: bool, limits: Limits | None = None) -> tuple[HubFile, ...]:
    """As list_files, with the safetensors and JSON files beside them."""
    at = f"/revision/{quote(reference.revision, safe='')}" if reference.revision else ""
    url = f"{endpoint()}/api/models/{reference.repo}{at}?blobs=true"
    rows = header_cache.listing(url, str(reference), lambda: _ask(url, reference, limits), offline=offline)
    return tuple(HubFile(*row) for row in rows)


def _ask(url: str, reference: HubReference, limits: Limits | None) -> list[list[Any]]:
    with get(url, headers={"Accept": "application/json"}, token=token(), limits=limits) as answer:
        if answer.status != 200:
            raise refusal(answer, str(reference), gated(reference), _instead(reference))
        raw = answer.read_all(_LISTING_BYTES)
    try:
        listed = json.loads(raw)
        rows = [_row(s, listed.get("sha")) for s in listed["siblings"] if _ends(s["rfilename"], *_LISTED)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise PartMissing(
            f"{reference}: what answers at {endpoint()} is not the hub: no list of files", do="look at HF_ENDPOINT"
        ) from None
    return rows


def _ends(path: str, *endings: str) -> bool:
    return path.lower().endswith(endings)


def _instead(reference: HubReference) -> tuple[str, ...]:
    return tuple(f"qwenops plan {one}" for one in repositories_like(reference.repo))


def _row(sibling: dict[str, Any], commit: Any) -> list[Any]:
    lfs = sibling.get("lfs") or {}
    size = lfs.get("size", sibling.get("size"))
    digest, blob = lfs.get("sha256"), sibling.get("blobId")
    content = f"sha256 {digest}" if isinstance(digest, str) else f"git {blob}" if isinstance(blob, str) else None
    commit = commit if isinstance(commit, str) and _COMMIT.fullmatch(commit) else None
    return [sibling["rfilename"], size if isinstance(size, int) and size >= 0 else None, content, commit]


def gated(reference: HubReference) -> tuple[str, ...]:
    """What to do where the hub wants a login; it says the same of a repository that does not exist."""
    return (
        f"look at the spelling, and accept the terms at {endpoint()}/{reference.repo} where there are any",
        f"export HF_TOKEN=…     (a token from {endpoint()}/settings/tokens)",
    )


def remote_file(reference: HubReference, file: HubFile, *, small: bool = False) -> RemoteFile:
    """Where one file of a listing is read: at the listing's own commit, whatever is pushed in the meantime.

    Its header is kept under the revision's name: another commit is mostly the same file.
    """
    named = reference.revision or "main"

    def at(revision: str) -> str:
        return f"{endpoint()}/{reference.repo}/resolve/{quote(revision, safe='')}/{quote(file.path)}"

    return RemoteFile(
        url=at(file.commit or named),
        kept_under=at(named),
        name=safe_name(PurePosixPath(file.path).name),
        shown=reference.shown(file.path),
        size_bytes=file.size_bytes,
        content=file.content,
        token=token(),
        gated=gated(reference),
        first_bytes=SMALL_BYTES if small else FIRST_BYTES,
    )


def wanted_models(
    reference: HubReference, files: tuple[HubFile, ...], *, most: int = MOST_VARIANTS
) -> list[tuple[HubFile, ...]]:
    """The models that are wanted of a listing, each with all its shards in order.

    Raises BadInput, naming what there is, where nothing or more than `most` is as wanted, and where shards are missing.
    """
    by_path = {f.path: f for f in files}
    models = {_first(p): p for p in by_path if not _is_beside(p)}
    picked = _pick(reference, models, by_path) if reference.wanted else sorted(models)
    if not picked:
        do = (*_instead(reference), "take a repository whose name ends in GGUF")
        raise BadInput(f"{reference} has no GGUF model", do=do)
    if len(picked) > most:
        raise BadInput(
            f"{reference} holds {len(picked)} models: {_labels(picked)}",
            do=f"name one of them: {reference.shown(_wanted_name(picked[0]))}",
        )
    return [_with_shards(reference, path, by_path) for path in picked]


def projector_files(files: tuple[HubFile, ...]) -> list[HubFile]:
    """The projectors of a listing, by their names."""
    return [f for f in files if "mmproj" in PurePosixPath(f.path).name.lower()]


def _is_beside(path: str) -> bool:
    name = PurePosixPath(path).name.lower()
    return any(word in name for word in _BESIDE_MODELS)


def _pick(reference: HubReference, models: dict[str, str], by_path: dict[str, HubFile]) -> list[str]:
    wanted = reference.wanted
    named = [p for p in by_path if wanted in (p, PurePosixPath(p).name)]
    if named:
        return [_first(named[0])]
    labels = {p: (label_in_name(PurePosixPath(p).name) or "").upper() for p in models}
    quant = wanted.upper()
    picked = [p for p, label in labels.items() if label == quant]
    picked = picked or [p for p, label in labels.items() if label.removeprefix("UD-") == quant]
    if picked:
        return sorted(picked)
    near = like(wanted, {_wanted_name(path) for path in models}, most=2, cutoff=0.5)
    has = f"; it has {_labels(models)}" if models else " and no other GGUF model"
    raise BadInput(
        f"{reference.shown('')} has no {wanted}{has}",
        do=(
            *(f"qwenops plan {reference.shown(one)}" for one in near),
            *((f"qwenops plan {reference.shown('')}     (all of them)",) if models else ()),
        ),
    )


def _wanted_name(path: str) -> str:
    return label_in_name(PurePosixPath(path).name) or path


def _labels(paths: Iterable[str]) -> str:
    names = sorted({_wanted_name(path) for path in paths})
    return ", ".join(names[:40]) + (", …" if names[40:] else "")


def _first(path: str) -> str:
    where = PurePosixPath(path)
    return str(where.with_name(shard_names(where.name)[0]))


def _with_shards(reference: HubReference, path: str, by_path: dict[str, HubFile]) -> tuple[HubFile, ...]:
    where = PurePosixPath(path)
    names = [str(where.with_name(name)) for name in shard_names(where.name)]
    missing = [name for name in names if name not in by_path]
    if missing:
        raise BadInput(
            f"{reference.shown(path)} has {len(names)} shards, and {len(missing)} are not in the repository: "
            + ", ".join(missing[:3])
            + (", …" if len(missing) > 3 else ""),
            do="take another quant",
        )
    return tuple(by_path[name] for name in names)
