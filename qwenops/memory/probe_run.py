"""Run a program until it has said what is wanted, and leave nothing behind: no process, no file, no socket.

Made for llama-server, which prints the answer of its fit before it reads weights and would then go on to load them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from qwenops.errors import PartMissing

FOLDER_PREFIX = "qwenops-probe-"
_KEPT_CHARACTERS = 16 * 1024**2
_PR_SET_PDEATHSIG = 1


def listen(
    command: Sequence[str], environment: Mapping[str, str], done: Callable[[str], bool], timeout_s: float
) -> tuple[str, bool]:
    """Run `command` and read its output until a line is `done`, it ends, or the time is over; then kill its group.

    Returns what it wrote and whether the wanted line came. Raises PartMissing when it cannot be started or was
    still silent about it at the limit.
    """
    lines: list[str] = []
    kept = 0
    late = threading.Event()
    with terminate_as_exit():
        process = _start(command, environment)

        def give_up() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(timeout_s, give_up)
        timer.daemon = True
        timer.start()
        try:
            assert process.stdout is not None
            for raw in process.stdout:
                line = raw.decode("utf-8", "replace")
                kept += len(line)
                if kept > _KEPT_CHARACTERS:
                    break
                lines.append(line)
                if done(line):
                    return "".join(lines), True
        finally:
            timer.cancel()
            _kill(process)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
    if late.is_set():
        raise PartMissing(f"{Path(command[0]).name} gave no answer within {timeout_s:g} s")
    return "".join(lines), False


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder with a short path (a socket's must be below 108 bytes), removed however the context ends."""
    with terminate_as_exit():
        folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "linux":
        options["preexec_fn"] = _die_with_parent()
    elif sys.platform == "win32":
        options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    try:
        return subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **options,
        )
    except OSError as e:
        raise PartMissing(f"{command[0]} cannot be started: {e.strerror or e}", do=f"ls -l {command[0]}") from None


def _die_with_parent() -> Callable[[], None] | None:
    """On Linux the child is killed by the kernel if we are: nobody would be left to end it."""
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    return ask


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        elif process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def terminate_as_exit() -> Iterator[None]:
    """While the context lasts SIGTERM unwinds the stack as Ctrl-C does, so that every `finally` runs.

    A handler that somebody else has set is left alone, and only the main thread can set one.
    """
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not ours:
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
