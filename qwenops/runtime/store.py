"""The model store, as a reader: manifests, blobs, the config and the parameters of a model.

Source: manifest/manifest.go (Manifests, ParseNamedManifest), manifest/paths.go (BlobsPath), manifest/layer.go,
server/images.go (GetModel, the media types), envconfig/config.go (Models), scripts/install.sh (the service's user
and home); Ollama v0.32.14.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwenops.errors import BadInput, CheckFailed, NotAllowed
from qwenops.runtime.client import TaggedModel
from qwenops.runtime.envconfig import var
from qwenops.runtime.names import Name, name_from_path, parse_name
from qwenops.runtime.types import Place, Store

MODEL = "application/vnd.ollama.image.model"
PROJECTOR = "application/vnd.ollama.image.projector"
ADAPTER = "application/vnd.ollama.image.adapter"
DRAFT = "application/vnd.ollama.image.draft"
TEMPLATE = "application/vnd.ollama.image.template"
SYSTEM = "application/vnd.ollama.image.system"
PARAMS = "application/vnd.ollama.image.params"
MESSAGES = "application/vnd.ollama.image.messages"
LICENSE = "application/vnd.ollama.image.license"
CONFIG = "application/vnd.docker.container.image.v1+json"

_DIGEST = re.compile(r"^sha256[:-][0-9a-fA-F]{64}$")
# A manifest is a few KB. What is far larger is no manifest, and is not read into memory.
_MANIFEST_LIMIT_BYTES = 16 << 20
_TEXT_LIMIT_BYTES = 16 << 20


@dataclass(frozen=True)
class Layer:
    """One blob of a model: what it is for, its digest ('sha256:...') and its size as the manifest has it."""

    media_type: str
    digest: str
    size_bytes: int
    name: str = ""


@dataclass(frozen=True)
class Manifest:
    """A model in the store. `digest` is what /api/tags shows; see `manifest_digest`."""

    name: Name
    path: Path
    digest: str
    config: Layer | None
    layers: tuple[Layer, ...]

    @property
    def size_bytes(self) -> int:
        """The sum of all layers and the config, as /api/tags shows it."""
        return sum(layer.size_bytes for layer in self.blobs)

    @property
    def blobs(self) -> tuple[Layer, ...]:
        """Every blob that the model needs."""
        return self.layers + ((self.config,) if self.config else ())

    def of(self, media_type: str) -> tuple[Layer, ...]:
        """The layers of one kind, in the manifest's order."""
        return tuple(layer for layer in self.layers if layer.media_type == media_type)


@dataclass(frozen=True)
class Listing:
    """The models of a store, and a line for each file there that is none."""

    manifests: tuple[Manifest, ...]
    notes: tuple[str, ...] = ()


def default_store_path(
    place: Place, environment: Mapping[str, str], *, user: str | None = None, home: Path | None = None
) -> tuple[Path, str]:
    """The folder of the server's models and where that was learned.

    `environment` is the server's own, `user` who it runs as, `home` that user's home folder where known.
    """
    named = var(environment, "OLLAMA_MODELS")
    if named:
        return Path(named), "OLLAMA_MODELS of the server"
    if place == "snap":
        return Path("/var/snap/ollama/common/models"), "the snap's default"
    folder = home or _home_of(user, environment)
    return folder / ".ollama" / "models", f"the default of user {user}" if user else "the default"


def open_store(path: Path, source: str, *, confirmed: bool = False) -> Store:
    """The store at a folder; `writable` says whether we may add blobs and manifests there."""
    return Store(path=path, source=source, writable=_writable(path), confirmed=confirmed)


def list_manifests(store: Store) -> Listing:
    """All models of the store, whatever registry they are from; broken manifests become notes, as in Ollama.

    Raises NotAllowed when the folder exists and may not be read.
    """
    root = store.path / "manifests"
    found: list[Manifest] = []
    notes: list[str] = []
    for relative in sorted(_files_four_deep(root)):
        name = name_from_path(relative)
        if name is None:
            notes.append(f"{root / relative} is no model name and was passed over")
            continue
        try:
            found.append(_parse(root / relative, name))
        except (CheckFailed, NotAllowed) as error:
            notes.append(error.message)
    return Listing(tuple(found), tuple(notes))


def read_manifest(store: Store, name: Name | str) -> Manifest:
    """One model. Case does not matter, as in Ollama. Raises BadInput when the store has none of that name."""
    wanted = parse_name(name) if isinstance(name, str) else name
    if not wanted.valid:
        raise BadInput(f"{name!s} is not a model name that Ollama takes", do="qwenops list")
    found = find_manifest(store, wanted)
    if found is None:
        raise BadInput(f"The store {store.path} has no model {wanted.short}", do=("qwenops list", "ollama list"))
    return found


def find_manifest(store: Store, wanted: Name) -> Manifest | None:
    """As read_manifest, for a name that may not be there: None."""
    root = store.path / "manifests"
    path = root / wanted.relative_path
    if os.path.isfile(path):
        return _parse(path, wanted)
    for relative in _files_four_deep(root):
        other = name_from_path(relative)
        if other is not None and other.folded == wanted.folded:
            return _parse(root / relative, other)
    return None


def blob_path(store: Store, digest: str) -> Path:
    """Where a blob lies. Raises CheckFailed for what is no digest, so that a manifest cannot point elsewhere."""
    if not _DIGEST.match(digest):
        raise CheckFailed(f"{digest!r} is not a digest", do="ollama rm the model that names it, and make it again")
    return store.path / "blobs" / digest.replace(":", "-")


def missing_blobs(store: Store, manifest: Manifest) -> tuple[Layer, ...]:
    """The blobs that the manifest names and that are not there, or not in their full size."""
    gone = []
    for layer in manifest.blobs:
        try:
            size = blob_path(store, layer.digest).stat().st_size
        except OSError:
            size = -1
        if size != layer.size_bytes:
            gone.append(layer)
    return tuple(gone)


def read_config(store: Store, manifest: Manifest) -> dict[str, Any]:
    """The config: model_format, model_family, model_families, model_type, file_type, renderer, parser, requires."""
    return _json_blob(store, manifest.config) if manifest.config else {}


def read_params(store: Store, manifest: Manifest) -> dict[str, Any]:
    """The PARAMETERs of a model, as the server applies them: the last params layer wins."""
    layers = manifest.of(PARAMS)
    return _json_blob(store, layers[-1]) if layers else {}


def read_text(store: Store, layer: Layer) -> str:
    """The text of a template, system or licence layer."""
    return _blob_bytes(store, layer).decode("utf-8", "replace")


def confirm_store(store: Store, tags: Iterable[TaggedModel]) -> bool:
    """Whether the server's list and this folder are one store: the same names with the same digests.

    An empty list proves nothing, and gives False. So does a folder that holds models which the server does not
    list: a copy of a store looks like that. Models that run elsewhere (remote_host) have manifests too and count.
    """
    listed = {(parse_name(t.name).folded, t.digest) for t in tags}
    if not listed:
        return False
    try:
        manifests = list_manifests(store).manifests
    except NotAllowed:
        return False
    here = {(m.name.folded, m.digest) for m in manifests}
    if not listed <= here:
        return False
    # The server leaves out models whose config it cannot read.
    readable = {(m.name.folded, m.digest) for m in manifests if m.config and not _unreadable(store, m)}
    return readable <= listed


def manifest_digest(raw: bytes) -> str:
    """The digest that Ollama shows for a manifest file: SHA-256, in hex, of the bytes that its decoder read.

    The decoder (Go's encoding/json) fills a buffer that starts at 512 bytes and grows to twice its size and 512
    more, and stops reading once the object is complete: a newline right behind a full buffer is not hashed.
    """
    text = raw.decode("utf-8", "surrogateescape")
    try:
        _, characters = json.JSONDecoder().raw_decode(text, len(text) - len(text.lstrip(" \t\r\n")))
    except ValueError as error:
        raise CheckFailed(f"not a manifest: {error}") from None
    end = len(text[:characters].encode("utf-8", "surrogateescape"))
    read = capacity = 512
    while read < end:
        capacity = 2 * capacity + 512
        read = capacity
    return hashlib.sha256(raw[:read]).hexdigest()


def _parse(path: Path, name: Name) -> Manifest:
    try:
        if path.stat().st_size > _MANIFEST_LIMIT_BYTES:
            raise CheckFailed(f"{path} is too large to be a manifest", do=f"ollama rm {name.short}")
        raw = path.read_bytes()
    except OSError as error:
        raise NotAllowed(f"{path} cannot be read: {error.strerror}", do=f"ls -l {path}") from None
    try:
        digest = manifest_digest(raw)
        value = json.JSONDecoder().raw_decode(raw.decode("utf-8", "replace").lstrip())[0]
        if not isinstance(value, dict):
            raise ValueError("not an object")
        layers = tuple(_layer(one) for one in value.get("layers") or ())
        config = _layer(value["config"]) if (value.get("config") or {}).get("digest") else None
    except (CheckFailed, ValueError, TypeError, AttributeError, KeyError):
        raise CheckFailed(f"{path} is not a manifest", do=f"ollama rm {name.short}") from None
    return Manifest(name=name, path=path, digest=digest, config=config, layers=layers)


def _layer(value: Mapping[str, Any]) -> Layer:
    return Layer(
        media_type=str(value.get("mediaType") or ""),
        digest=str(value.get("digest") or ""),
        size_bytes=int(value.get("size") or 0),
        name=str(value.get("name") or ""),
    )


def _files_four_deep(root: Path) -> list[str]:
    """Files at host/namespace/model/tag, as manifest.Manifests globs them."""
    try:
        os.listdir(root)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise NotAllowed(f"{root} cannot be read: {error.strerror}", do=f"sudo ls {root}") from None
    return [p.relative_to(root).as_posix() for p in root.glob("*/*/*/*") if p.is_file()]


def _unreadable(store: Store, manifest: Manifest) -> bool:
    try:
        return not isinstance(read_config(store, manifest), dict)
    except (CheckFailed, NotAllowed):
        return True


def _json_blob(store: Store, layer: Layer) -> dict[str, Any]:
    raw = _blob_bytes(store, layer)
    try:
        value = json.loads(raw)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise CheckFailed(
            f"{blob_path(store, layer.digest)} is not the JSON object that its manifest says it is",
            do="ollama rm the model that uses it, and make it again",
        )
    return value


def _blob_bytes(store: Store, layer: Layer) -> bytes:
    path = blob_path(store, layer.digest)
    try:
        if path.stat().st_size > _TEXT_LIMIT_BYTES:
            raise CheckFailed(f"{path} is too large for a {layer.media_type}")
        return path.read_bytes()
    except FileNotFoundError:
        raise CheckFailed(f"{path} is gone, and a manifest names it", do="qwenops list") from None
    except OSError as error:
        raise NotAllowed(f"{path} cannot be read: {error.strerror}", do=f"sudo ls -l {path}") from None


def _writable(path: Path) -> bool:
    """Whether a blob and a manifest could be added: the two folders, or the nearest folder above that exists."""
    for folder in (path / "blobs", path / "manifests"):
        here = folder
        # Path.exists raises where a folder above may not be looked into; os.path says no.
        while not os.path.exists(here) and here != here.parent:
            here = here.parent
        if not os.access(here, os.W_OK | os.X_OK):
            return False
    return True


def _home_of(user: str | None, environment: Mapping[str, str]) -> Path:
    named = environment.get("HOME") or environment.get("USERPROFILE")
    if named:
        return Path(named)
    if user:
        try:
            import pwd

            return Path(pwd.getpwnam(user).pw_dir)
        except (ImportError, KeyError):
            if user == "ollama":
                return Path("/usr/share/ollama")
    return Path.home()
