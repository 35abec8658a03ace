"""Value types of the hand-over: what to register, what was registered, and how healthy it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

How = Literal["linked", "reflinked", "copied", "uploaded"]
State = Literal["ok", "hidden", "unknown", "unreadable", "missing", "changed"]
"""From good to bad. "hidden": the blob is right, but the file it was linked from is not where it was any more."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done ("reading x.gguf"), the bytes done and the bytes in all."""


def silent(what: str, done_bytes: int, total_bytes: int) -> None:
    """The progress of someone who does not look."""


@dataclass(frozen=True)
class Message:
    """One MESSAGE of a Modelfile."""

    role: str
    content: str


@dataclass(frozen=True)
class Spec:
    """What a Modelfile says, in the words of registration.

    `shards` are the files of the model in order (one for a plain file); `base` names a model that Ollama already has,
    in place of files. `parameters` carry Ollama's own types (modelfile.parameters makes them). Everything else is text
    as it was written.
    """

    shards: tuple[Path, ...] = ()
    projectors: tuple[Path, ...] = ()
    adapters: tuple[Path, ...] = ()
    draft: Path | None = None
    base: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    template: str | None = None
    system: str | None = None
    license: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    renderer: str | None = None
    parser: str | None = None
    requires: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that must be handed over, in the order of the layers."""
        draft = (self.draft,) if self.draft else ()
        return (*self.shards, *self.projectors, *self.adapters, *draft)


@dataclass(frozen=True)
class Registered:
    """What a registration did. Sizes in bytes; `undo` is the command that takes it back.

    `changed` is False when the model was there already with this content. `confirmed` says that the running server
    showed the new model; it is False when no server could be asked.
    """

    name: str
    how: How
    bytes_copied: int
    bytes_linked: int
    manifest: Path | None
    changed: bool
    undo: str
    confirmed: bool = True
    digest: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileHealth:
    """One weights blob of a model: still what its digest says, changed under it, gone, or without its original.

    `source` is the file it was linked from, where qwenops made the link and it still is one; `why` is a sentence for
    people.
    """

    state: State
    digest: str
    blob: Path | None
    source: Path | None = None
    why: str = ""


@dataclass(frozen=True)
class Listed:
    """A registered model and the health of its weights. `size_bytes` counts every layer once."""

    name: str
    digest: str
    size_bytes: int
    family: str
    parameters: str
    quant: str
    made_by_qwenops: bool
    files: tuple[FileHealth, ...]

    @property
    def state(self) -> State:
        """The worst state of any of its files."""
        return max((file.state for file in self.files), key=_WORSE.index, default="ok")

    def as_data(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.name,
            "digest": self.digest,
            "size_bytes": self.size_bytes,
            "family": self.family,
            "parameters": self.parameters,
            "quant": self.quant,
            "made_by_qwenops": self.made_by_qwenops,
            "state": self.state,
            "files": [
                {
                    "state": f.state,
                    "digest": f.digest,
                    "blob": str(f.blob) if f.blob else None,
                    "source": str(f.source) if f.source else None,
                    "why": f.why,
                }
                for f in self.files
            ],
        }


_WORSE: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class Shown:
    """One model in full: list entry, configuration, parameters and texts, as the store or the server has them."""

    listed: Listed
    config: Mapping[str, Any]
    parameters: Mapping[str, Any]
    template: str | None
    system: str | None
    capabilities: tuple[str, ...]
    source: Literal["store", "server"]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Removed:
    """What a removal did: the manifest and the blobs that no other model used. Sizes in bytes."""

    name: str
    by: Literal["server", "store"]
    bytes_freed: int
    blobs_kept: int
    notes: tuple[str, ...] = ()
