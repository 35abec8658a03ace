"""Value types of the runtime: which server will run the model, where, and under which settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from qwenops.machine.types import Device

FlashAttention = Literal["auto", "on", "off"]
SilenceKind = Literal["nothing listens", "hangs", "other"]
Place = Literal["local", "container", "wsl", "snap", "app", "remote", "none"]


@dataclass(frozen=True)
class Setting:
    """One setting in force and where it was read ("process 4711", "ollama.service", "default")."""

    name: str
    value: str
    source: str


@dataclass(frozen=True)
class LoadedModel:
    """A model that the server holds now (/api/ps). Sizes in bytes, as the server counts them."""

    name: str
    size_bytes: int
    size_vram_bytes: int
    context_length: int | None
    digest: str


@dataclass(frozen=True)
class Store:
    """The model store: its folder, whether we may write it, and whether it was proven to be the server's."""

    path: Path
    source: str
    writable: bool
    confirmed: bool


@dataclass(frozen=True)
class Backend:
    """Where the library of one device lies, and by which id the server shows that device to a child.

    `device` is the runtime's word ("CUDA0"), `library` Ollama's ("CUDA", "ROCm", "Vulkan", "Metal"); `folders` are the
    GPU library folders beside lib/ollama itself, in the order in which the server names them.
    """

    device: str
    library: str
    id: str
    filter_id: str = ""
    folders: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Silence:
    """Why a server could not be asked, with what to type; `here` is whether its address is this machine's."""

    kind: SilenceKind
    message: str
    do: tuple[str, ...]
    port: int
    here: bool


@dataclass(frozen=True)
class Runtime:
    """The Ollama server and its llama-server, as far as they could be found.

    `environment` holds the server process's own OLLAMA_*, LLAMA_ARG_*, GGML_* and device variables where they could
    be read. `devices` come from `llama-server --list-devices`. `user` is who the server runs as, `unit` its systemd
    unit, `log_path` the file it writes its log to, where there is one. `silence` says why it did not answer.
    """

    place: Place
    url: str
    version: str | None = None
    ollama_path: Path | None = None
    llama_server_path: Path | None = None
    llama_server_build: str | None = None
    devices: tuple[Device, ...] = ()
    settings: tuple[Setting, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    pid: int | None = None
    user: str | None = None
    store: Store | None = None
    loaded: tuple[LoadedModel, ...] = ()
    notes: tuple[str, ...] = ()
    backends: tuple[Backend, ...] = ()
    unit: str | None = None
    log_path: Path | None = None
    silence: Silence | None = None

    @property
    def reachable(self) -> bool:
        """Whether the server answered."""
        return self.version is not None

    def setting(self, name: str) -> str | None:
        """The value in force of one setting, or None."""
        return next((s.value for s in self.settings if s.name == name), None)
