"""Look into a Spec's files before anything is done with them, and turn them into rows, blobs and a manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qwenops.errors import BadInput
from qwenops.model.gguf_header import read_header
from qwenops.model.projector import is_projector
from qwenops.model.split import merged_header
from qwenops.model.types import Header
from qwenops.ollama.digest import Digested, resolve
from qwenops.ollama.manifest import Row, configuration, manifest_bytes, text_layers
from qwenops.ollama.types import Spec
from qwenops.runtime.store import ADAPTER, CONFIG, DRAFT, MODEL, PROJECTOR


@dataclass(frozen=True)
class Contents:
    """A Spec whose files were opened: real paths, headers, and what each file becomes.

    `needs_rewrite` is why Ollama itself must rewrite a file, so that it cannot be linked; empty where it need not.
    """

    spec: Spec
    header: Header | None
    draft: Header | None
    files: tuple[tuple[str, Path], ...]
    needs_rewrite: str = ""

    @property
    def total_bytes(self) -> int:
        """The size of all files."""
        return sum(path.stat().st_size for _, path in self.files)

    @property
    def model_bytes(self) -> int:
        """The size of the text model's files: what `ollama create` writes a second time."""
        return sum(path.stat().st_size for kind, path in self.files if kind == MODEL)


@dataclass(frozen=True)
class Blob:
    """A large blob to be placed: the digested file and its row."""

    found: Digested
    row: Row


@dataclass(frozen=True)
class Bundle:
    """Everything that must lie in the store for one model, worked out before a byte is written."""

    blobs: tuple[Blob, ...]
    small: tuple[tuple[str, bytes], ...]
    manifest: bytes


def open_contents(spec: Spec) -> Contents:
    """Open and judge every file of a Spec. Raises BadInput and NotAGGUF with the file's name."""
    if not spec.shards:
        if spec.base:
            return Contents(spec, None, None, ())
        raise BadInput("The Modelfile names no model file", do="add a line FROM /path/to/model.gguf")
    first = _absolute(spec.shards[0])
    header, shards = merged_header(first)
    if is_projector(header):
        raise BadInput(
            f"{first} is a projector, and the Modelfile names no model beside it",
            do="put FROM /path/to/model.gguf above it",
        )
    rewrite = ""
    if len(shards) > 1:
        rewrite = (
            f"{first.name} is one of {len(shards)} shards: Ollama runs a model from one file, so it must merge them"
        )
    files = [(MODEL, resolve(path)) for path in shards]
    for path in spec.projectors:
        projector = read_header(_absolute(path))
        if not is_projector(projector):
            raise BadInput(f"{path} is a {projector.architecture} model, not a projector", do="take its mmproj file")
        if not {"clip.projector_type", "clip.vision.projector_type"} & projector.metadata.keys():
            rewrite = rewrite or f"{path.name} does not name its projector type, and Ollama must write it in"
        files.append((PROJECTOR, resolve(path)))
    for path in spec.adapters:
        adapter = read_header(_absolute(path))
        if adapter.metadata.get("general.type") != "adapter":
            raise BadInput(f"{path} is not an adapter (general.type is not 'adapter')", do="convert it to GGUF first")
        files.append((ADAPTER, resolve(path)))
    draft = None
    if spec.draft:
        draft = read_header(_absolute(spec.draft))
        files.append((DRAFT, resolve(spec.draft)))
    return Contents(replace(spec, shards=shards), header, draft, tuple(files), rewrite)


def _absolute(path: Path) -> Path:
    # A shard's name says which it is, and a link into Hugging Face's cache has it where the blob has not.
    resolve(path)
    return path.expanduser().absolute()


def bundle(contents: Contents, digested: Sequence[Digested]) -> Bundle:
    """The rows, small blobs and manifest of a model made of files, in the order `ollama create` has them."""
    assert contents.header is not None
    blobs = tuple(
        Blob(found, Row(kind, f"sha256:{found.sha256}", found.stamp.size, named.name))
        for (kind, _), named, found in zip(contents.files, contents.spec.files, digested, strict=True)
    )
    small = [(kind, _sha256(data), data) for kind, data in text_layers(contents.spec)]
    rows = [*(blob.row for blob in blobs), *(Row(kind, digest, len(data)) for kind, digest, data in small)]
    config = configuration(contents.spec, contents.header, rows, contents.draft)
    config_digest = _sha256(config)
    manifest = manifest_bytes(Row(CONFIG, config_digest, len(config)), rows)
    return Bundle(blobs, (*((digest, data) for _, digest, data in small), (config_digest, config)), manifest)


def fingerprint(spec: Spec, digested: Sequence[Digested]) -> str:
    """One hash of everything that a model is made from, to know it again when only the server has the result."""
    said = {
        "files": [found.sha256 for found in digested],
        "base": spec.base,
        "parameters": dict(sorted(spec.parameters.items())),
        "texts": [spec.template, spec.system, *spec.license],
        "messages": [[m.role, m.content] for m in spec.messages],
        "words": [spec.renderer, spec.parser, spec.requires],
    }
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
