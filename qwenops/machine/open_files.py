"""Which running process holds a file open or mapped, as far as this user may see it.

By the file's own name, not by its path or inode: a server in a container sees the store under another path, and a
blob's name is its digest. Linux: /proc/PID/fd and /proc/PID/maps (a mapped model has no descriptor left); elsewhere
psutil, for the processes that it may look into.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")


def holder_of(name: str) -> str | None:
    """'ollama (4711)': a process that has a file of this name open; None where none is seen."""
    pid = next(_holders(name), None)
    return None if pid is None else f"{_name_of(pid)} ({pid})"


def _holders(name: str) -> Iterator[int]:
    if sys.platform == "linux":
        for folder in _PROC.iterdir():
            pid = int(folder.name) if folder.name.isdigit() else 0
            if pid and pid != os.getpid() and (_has_open(folder, name) or _has_mapped(folder, name)):
                yield pid
    elif sys.platform != "win32":  # there an open file cannot be removed in the first place
        yield from _seen_by_psutil(name)


def _has_open(process: Path, name: str) -> bool:
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if _is_named(os.readlink(descriptor), name):
                    return True
    return False


def _has_mapped(process: Path, name: str) -> bool:
    with contextlib.suppress(OSError):
        maps = (process / "maps").read_bytes().decode("utf-8", "surrogateescape")
        return name in maps and any(_is_named(line, name) for line in maps.splitlines())
    return False


def _is_named(shown: str, name: str) -> bool:
    return shown.removesuffix(" (deleted)").endswith(f"/{name}")


def _seen_by_psutil(name: str) -> Iterator[int]:
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and any(Path(file.path).name == name for file in process.open_files()):
                yield int(process.pid)


def _name_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return (_PROC / str(pid) / "comm").read_text("utf-8", "replace").strip()
    return "a process"
