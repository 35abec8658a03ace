"""What the tests of registration share: the Runtime of a test server, quick models, a way to ask the model."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from qwenops.errors import QwenopsError
from qwenops.ollama.types import Spec
from qwenops.runtime.client import Client
from qwenops.runtime.store import open_store
from qwenops.runtime.types import Runtime
from tests.support.parts import layout
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


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A tmpfs of this size mounted on a folder (root only); skips the test where mounting is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    if not is_root() or shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("needs root and the right to mount a small tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@dataclass(frozen=True)
class SecondUser:
    """A user of this machine that is neither root nor us, and a folder that everyone can reach."""

    name: str
    uid: int
    gid: int
    folder: Path


@contextlib.contextmanager
def second_user() -> Iterator[SecondUser]:
    """Make a user with useradd (root only) and take it away again; skips the test where that cannot be done."""
    import pwd

    if not is_root() or shutil.which("useradd") is None:
        pytest.skip("needs root and useradd for a second user")
    name = f"qwenops-t{os.getpid() % 100000}"
    subprocess.run(["useradd", "--system", "--no-create-home", name], check=True, capture_output=True)
    folder = Path(tempfile.mkdtemp(prefix="qwenops-second-user-"))
    folder.chmod(0o755)
    try:
        entry = pwd.getpwnam(name)
        yield SecondUser(name, entry.pw_uid, entry.pw_gid, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["userdel", name], check=True, capture_output=True)


@contextlib.contextmanager
def server_of(user: SecondUser) -> Iterator[OllamaServer]:
    """A real Ollama that runs as another user, on parts that this user can read, with a store of its own."""
    parts = user.folder / "ollama"
    shutil.copytree(layout().ollama.parent.parent, parts, copy_function=os.link, symlinks=True)
    home = user.folder / "home"
    for folder in (home, home / "store", home / "store" / "blobs", home / "store" / "manifests"):
        folder.mkdir(mode=0o755)
        os.chown(folder, user.uid, user.gid)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    env = {
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_MODELS": str(home / "store"),
        "OLLAMA_NO_CLOUD": "1",
        "OLLAMA_VULKAN": "0",
        "GGML_VK_VISIBLE_DEVICES": "-1",
    }
    log_path = user.folder / "serve.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [parts / "bin" / "ollama", "serve"],
            env=env,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user.uid,
            group=user.gid,
            extra_groups=[],
        )
    server = OllamaServer(f"http://127.0.0.1:{port}", home / "store", log_path, process, env)
    try:
        _wait(server)
        yield server
    finally:
        server.stop()


def _wait(server: OllamaServer) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(QwenopsError):
            Client(server.url).version()
            return
        time.sleep(0.1)
    raise AssertionError(server.log()[-800:])


def as_user(user: SecondUser, work: Callable[[], str]) -> str:
    """What `work` returns, or "Error: message" of what it raises, when another user does it (in a fork)."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(user.gid)
            os.setuid(user.uid)
            said = work()
        except QwenopsError as error:
            said = f"{type(error).__name__}: {error.message}\n" + "\n".join(error.do)
        except BaseException as error:
            said = f"{type(error).__name__}: {error!r}"
        os.write(write, said.encode()[:60000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        said = answer.read().decode()
    os.waitpid(child, 0)
    return said


@contextlib.contextmanager
def reflink_disk(folder: Path, size_bytes: int = 160 << 20) -> Iterator[Path]:
    """A btrfs in a file, mounted on a folder (root only); skips the test where that cannot be had."""
    if not is_root() or shutil.which("mkfs.btrfs") is None:
        pytest.skip("needs root and mkfs.btrfs (Debian: btrfs-progs) for a file system with reflinks")
    folder.mkdir(parents=True)
    image = folder.with_name(f"{folder.name}.img")
    image.touch()
    os.truncate(image, size_bytes)
    subprocess.run(["mkfs.btrfs", "--quiet", str(image)], check=True)
    if subprocess.run(["mount", "-o", "loop", str(image), str(folder)], capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a file")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        image.unlink()
