"""Value types of a model file: its header, its projector, its shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ArrayInfo:
    """An array that was measured but not read (a vocabulary): its element type, length and place in the file."""

    type: int
    length: int
    offset: int


@dataclass(frozen=True)
class Tensor:
    """One row of the tensor table. `shape` is in ggml's order (ne0 first); `type` is ggml's type number."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int
    size_bytes: int
    shard: int = 0


@dataclass(frozen=True)
class Header:
    """Metadata and tensor table of one GGUF, or of all shards of a split one merged.

    `checksum` is the CRC-32 of the header's bytes (the first shard's): it tells apart what ArrayInfo leaves unread.
    `keys_at` is where each key of the metadata begins and where its value ends in them; empty where no bytes were read.
    """

    path: Path
    version: int
    metadata: Mapping[str, Any]
    tensors: tuple[Tensor, ...]
    alignment: int
    data_offset: int
    file_bytes: int
    checksum: int = 0
    keys_at: Mapping[str, tuple[int, int]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def architecture(self) -> str:
        """general.architecture, or an empty string."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors, without padding."""
        return sum(t.size_bytes for t in self.tensors)


@dataclass(frozen=True)
class Projector:
    """A vision projector file (mmproj) that belongs to a model.

    `remote` is set where only the header was read, of a file that is not here: it names the file, and `path` holds
    the header's bytes alone. `stored` is the model's name in Ollama where `path` is a blob of its store.
    """

    path: Path
    header: Header
    kind: str
    projection_dim: int
    file_bytes: int
    remote: str | None = None
    stored: str | None = None

    @property
    def source(self) -> str:
        """The file as people name it: its path, the reference of one that is not here, or whose blob it is."""
        return self.remote or (f"ollama:{self.stored} (projector)" if self.stored else str(self.path))


@dataclass(frozen=True)
class Model:
    """A text model with the files it is made of, and its projector where it has one.

    `quant` is the field's own name ("Q4_K_M", "IQ4_XS", "UD-Q4_K_XL"); `shards` has one path for a plain file.
    `inline_vision` is set when the vision tensors are inside the model file, as in Ollama's own library.
    `remote` is set where only the header was read, of files that are not here: it names the file, and `shards` hold
    the headers' bytes alone, each under its file's own name. `stored` is the name under which Ollama has the model,
    where `shards` is its blob in Ollama's store. `drawn` is set where no file was read at all, only the catalogue's
    dimensions: nobody but the closed form can be asked about it.
    """

    name: str
    architecture: str
    header: Header
    shards: tuple[Path, ...]
    quant: str
    parameters: int
    file_bytes: int
    projector: Projector | None = None
    inline_vision: bool = False
    remote: str | None = None
    stored: str | None = None
    drawn: bool = False

    @property
    def source(self) -> str:
        """The file as people name it: its path, the reference of one that is not here, or its name in Ollama."""
        return self.remote or (f"ollama:{self.stored}" if self.stored else str(self.path))

    @property
    def path(self) -> Path:
        """The file to name in FROM: the first shard."""
        return self.shards[0]

    def hparam(self, key: str, default: Any = None) -> Any:
        """A metadata value under the architecture's own prefix."""
        return self.header.metadata.get(f"{self.architecture}.{key}", default)
