"""How a part is made: said beforehand, with progress, once, and never half.

A part is finished when its stamp is there; the stamp is written last and names the versions and, for what
was compiled for this processor, the processor's features. Whatever is produced is made in a draft folder
and moved into place at the end, so an interrupted run leaves nothing that looks done.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scripts.parts.layout import Layout

HEARTBEAT_SECONDS = 10
LOG_TAIL_LINES = 25
LINE_WIDTH = 110


class Unavailable(Exception):
    """This machine cannot make the part; the message says what it lacks."""


class PartFailed(Exception):
    """Making the part went wrong; the message says where the log is and how it ended."""


@cache
def cpu_features() -> frozenset[str]:
    """The processor's instruction sets as Linux names them; empty where it does not say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.partition(":")[2].split())
    return frozenset()


def say(text: str) -> None:
    """Progress goes to stdout at once: a build log is read while it grows."""
    print(text, flush=True)


@dataclass(frozen=True)
class Workshop:
    """The parts folder while it is being worked on."""

    layout: Layout

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One run at a time; a second waits and says so. The lock dies with its process."""
        self.layout.root.mkdir(parents=True, exist_ok=True)
        with (self.layout.root / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"another run is making parts in {self.layout.root}; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            for leftover in self.layout.root.glob(".draft-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            yield

    @contextlib.contextmanager
    def draft(self) -> Iterator[Path]:
        """A folder on the same disk to make things in, gone afterwards."""
        folder = Path(tempfile.mkdtemp(prefix=".draft-", dir=self.layout.root))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def is_stamped(self, name: str, key: str, *, native: bool, products: Sequence[Path]) -> bool:
        """Whether `name` was finished as `key`, its files are there, and this processor can run them."""
        try:
            stamp = json.loads((self.layout.stamps / f"{name}.json").read_text())
        except (OSError, ValueError):
            return False
        if not isinstance(stamp, dict) or stamp.get("key") != key or not all(path.exists() for path in products):
            return False
        return not native or set(stamp.get("cpu", ())) <= cpu_features()

    def stamp(self, name: str, key: str, *, native: bool) -> None:
        """Record that `name` is finished."""
        self.layout.stamps.mkdir(parents=True, exist_ok=True)
        record = {"key": key, "cpu": sorted(cpu_features()) if native else []}
        draft = self.layout.stamps / f".{name}.json"
        draft.write_text(json.dumps(record, indent=1))
        os.replace(draft, self.layout.stamps / f"{name}.json")

    def run(self, name: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> str:
        """Run a command with its output in a log, a line of progress every ten seconds.

        Returns the output. Raises PartFailed with the log's end when the command fails.
        """
        logs = self.layout.root / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        path = logs / f"{name}.log"
        began = time.monotonic()
        with path.open("wb") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                while process.poll() is None:
                    try:
                        process.wait(HEARTBEAT_SECONDS)
                    except subprocess.TimeoutExpired:
                        say(f"    {time.monotonic() - began:4.0f} s  {_last_line(path)}".rstrip())
            except BaseException:
                # A compiler is a tree of processes; none of it may go on behind our back.
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
                raise
        output = path.read_text("utf-8", "replace")
        if process.returncode != 0:
            tail = "\n".join(f"    | {line}" for line in output.splitlines()[-LOG_TAIL_LINES:])
            raise PartFailed(f"`{command[0]}` ended with {process.returncode}; log {path}\n{tail}")
        return output

    def pip(self, name: str, *arguments: str | Path, env: Mapping[str, str] | None = None) -> str:
        """Run this interpreter's pip. Raises Unavailable where it has none."""
        probe = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True)
        if probe.returncode != 0:
            raise Unavailable(f"{sys.executable} has no pip (Debian: apt install python3-pip python3-venv)")
        return self.run(name, [sys.executable, "-m", "pip", *arguments], env)


def _last_line(log: Path) -> str:
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 2000))
        lines = stream.read().decode("utf-8", "replace").replace("\r", "\n").split("\n")
    spoken = [line.strip() for line in lines if line.strip()]
    return spoken[-1][:LINE_WIDTH] if spoken else ""


def put_in_place(made: Path, target: Path) -> None:
    """Move a finished file or folder to where it belongs, over an older one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not target.is_symlink():
        old = made.parent / f"{target.name}.old"
        os.replace(target, old)
        os.replace(made, target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(made, target)
