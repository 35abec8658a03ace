"""What the tests of registration share: the Runtime of a test server, quick models, a way to ask the model."""

from __future__ import annotations

import getpass
import json
import os
from pathlib import Path

from qwenops.ollama.types import Spec
from qwenops.runtime.client import Client
from qwenops.runtime.store import open_store
from qwenops.runtime.types import Runtime
from tests.support.server import OllamaServer


def runtime_of(server: OllamaServer, *, user: str | None = None) -> Runtime:
    """The Runtime of a running test server."""
    return Runtime(
        place="local",
        url=server.url,
        version=Client(server.url).version(),
        pid=server.pid,
        user=user or getpass.getuser(),
        store=open_store(server.store, "OLLAMA_MODELS of the server"),
    )


def store_alone(folder: Path) -> Runtime:
    """A Runtime with a store and no server."""
    return Runtime(place="none", url="http://127.0.0.1:9", store=open_store(folder, "test"))


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with its inode and size."""
    return {str(p.relative_to(folder)): (p.stat().st_ino, p.stat().st_size) for p in folder.rglob("*") if p.is_file()}


def minimal_gguf(path: Path, *, architecture: str = "llama", extra: int = 0, seed: int = 1) -> Path:
    """A tiny, valid GGUF file: enough for a header reader, not for a server. `extra` bytes of weights."""
    import struct

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    size = max(1024, extra)
    count = size // 4
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    head += text("general.architecture") + struct.pack("<I", 8) + text(architecture)
    head += text("token_embd.weight") + struct.pack("<IQIQ", 1, count, 0, 0)
    head += b"\0" * (-len(head) % 32)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + bytes([seed]) * (count * 4))
    return path


def spec_for(path: Path, **words: object) -> Spec:
    """A Spec of one model file."""
    return Spec(shards=(path,), **words)  # type: ignore[arg-type]


def manifest_of(store: Path, name: str, tag: str = "latest") -> dict[str, object]:
    """A manifest as JSON."""
    path = store / "manifests" / "registry.ollama.ai" / "library" / name / tag
    loaded: dict[str, object] = json.loads(path.read_text())
    return loaded


def is_root() -> bool:
    """Whether the tests run as root."""
    return hasattr(os, "geteuid") and os.geteuid() == 0
