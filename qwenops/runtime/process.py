"""Find the server's process: who listens on the port, or who runs `ollama serve`, and what may be read of it.

Source of the command line's form: app/server/server.go (ollamaServeArgs), Ollama v0.32.14.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwenops.runtime.host import parse_host


@dataclass(frozen=True)
class ServerProcess:
    """The server's process as far as our rights reach; None where they do not.

    `listens` tells whether it was seen on the port (else it was found by its name). `same_mounts` is whether it
    sees the same files as we do.
    """

    pid: int
    name: str
    command: tuple[str, ...] = ()
    listens: bool = False
    exe: Path | None = None
    user: str | None = None
    home: Path | None = None
    working_dir: Path | None = None
    environment: Mapping[str, str] | None = None
    cgroup: str | None = None
    same_mounts: bool | None = None
    log_path: Path | None = None


@dataclass(frozen=True)
class Search:
    """What the search gave. `port_taken` is whether anyone here listens on the port, None where that is unknown."""

    process: ServerProcess | None
    port_taken: bool | None
    notes: tuple[str, ...] = ()


def find_server(port: int) -> Search:
    """The process behind a local port, else the only `ollama serve` of this machine.

    A normal user on Linux sees the sockets of others without their owner, on macOS no sockets of others at all:
    then the name decides, and when several servers run, the one whose OLLAMA_HOST names the port.
    """
    import psutil

    pid, taken = _listener(port)
    if pid is not None:
        with suppress(psutil.Error):
            return Search(_read(psutil.Process(pid), listens=True), True)
    if taken is False:
        return Search(None, False)
    servers = _servers_by_name()
    fitting = servers if len(servers) == 1 else [p for p in servers if _port_of(p) == port]
    if len(fitting) == 1:
        return Search(fitting[0], taken)
    notes = ("several Ollama servers run here, and our rights hide which one listens",) if servers else ()
    return Search(None, taken, notes)


def contained_server() -> ServerProcess | None:
    """The only server of this machine that sees other files than we do, or None."""
    inside = [p for p in _servers_by_name() if p.same_mounts is False]
    return inside[0] if len(inside) == 1 else None


def is_serve(command: Sequence[str]) -> bool:
    """Whether a command line is an Ollama server's: `ollama serve`, with or without flags before the word."""
    if len(command) < 2:
        return False
    program = command[0].strip('"').replace("\\", "/").rsplit("/", 1)[-1]
    if program not in ("ollama", "ollama.exe"):
        return False
    words = [word.strip('"') for word in command[1:] if not word.strip('"').startswith("-")]
    return bool(words) and words[0] in ("serve", "start")


def _listener(port: int) -> tuple[int | None, bool | None]:
    import psutil

    try:
        sockets = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return None, None
    taken = False
    for socket in sockets:
        if socket.status == psutil.CONN_LISTEN and socket.laddr and socket.laddr.port == port:
            taken = True
            if socket.pid:
                return socket.pid, True
    return None, taken


def _servers_by_name() -> list[ServerProcess]:
    import psutil

    found = []
    for process in psutil.process_iter(["name"]):
        name = (process.info.get("name") or "").lower()
        if not name.startswith("ollama"):
            continue
        with suppress(psutil.Error):
            if is_serve(process.cmdline()):
                found.append(_read(process, listens=False))
    return found


def _port_of(process: ServerProcess) -> int | None:
    """The port that a server was told, or None where its environment is hidden."""
    if process.environment is None:
        return None
    return parse_host(process.environment.get("OLLAMA_HOST", "")).port_number


def family_of(pid: int | None) -> frozenset[int]:
    """A process and its children, as far as they can be seen; none of no process."""
    if pid is None:
        return frozenset()
    import psutil

    with suppress(psutil.Error):
        return frozenset({pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))})
    return frozenset({pid})


def _read(process: Any, *, listens: bool) -> ServerProcess:
    import psutil

    def allowed(question: Any) -> Any:
        try:
            return question()
        except (psutil.Error, OSError, NotImplementedError):
            return None

    exe, user, folder = allowed(process.exe), allowed(process.username), allowed(process.cwd)
    return ServerProcess(
        pid=process.pid,
        name=allowed(process.name) or "",
        command=tuple(allowed(process.cmdline) or ()),
        listens=listens,
        exe=Path(exe.removesuffix(" (deleted)")) if exe else None,
        user=user,
        home=home_of(user),
        working_dir=Path(folder) if folder else None,
        environment=allowed(process.environ) or None,
        cgroup=_text(f"/proc/{process.pid}/cgroup"),
        same_mounts=_same_mounts(process.pid),
        log_path=_log_of(process.pid),
    )


def home_of(user: str | None) -> Path | None:
    """The home folder of a user of this machine, by the user database."""
    if not user:
        return None
    try:
        import pwd

        return Path(pwd.getpwnam(user).pw_dir)
    except (ImportError, KeyError):
        return None


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def own_cgroup() -> str | None:
    """Our own control groups, to compare with the server's."""
    return _text("/proc/self/cgroup")


def _same_mounts(pid: int) -> bool | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    except OSError:
        return None


def _log_of(pid: int) -> Path | None:
    """The regular file that the process writes its standard error to, if it is one."""
    try:
        target = Path(os.readlink(f"/proc/{pid}/fd/2"))
        return target if target.is_absolute() and target.is_file() else None
    except OSError:
        return None
