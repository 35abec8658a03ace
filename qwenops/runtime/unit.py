"""The systemd unit of the server: its environment, its user and its program, without any rights being needed.

Source of the unit's form: scripts/install.sh, Ollama v0.32.14; systemctl(1), `show`.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qwenops.errors import QwenopsError
from qwenops.runtime.child import ask_program

DEFAULT_UNIT = "ollama.service"
_PROPERTIES = ("LoadState", "Environment", "EnvironmentFiles", "User", "ExecStart", "MainPID", "FragmentPath")
_EXEC = re.compile(r"path=(\S+)")
_FILE = re.compile(r"^(\S.*?)(?:\s+\(ignore_errors=(?:yes|no)\))?$")


@dataclass(frozen=True)
class Unit:
    """What systemd says of the server's unit."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_files: tuple[Path, ...] = ()
    user: str | None = None
    program: Path | None = None
    pid: int | None = None


def read_unit(name: str = DEFAULT_UNIT, *, user: bool = False) -> Unit | None:
    """The unit, its environment files read in; None where there is no systemd or no such unit."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return None
    command = [systemctl, *(["--user"] if user else []), "show", name, "--no-pager"]
    command += [f"--property={p}" for p in _PROPERTIES]
    try:
        unit = parse_unit(name, ask_program(command, limit_s=3.0).out)
    except QwenopsError:
        return None
    if unit is None:
        return None
    merged = dict(unit.environment)
    for path in unit.environment_files:
        try:
            merged.update(parse_environment_file(path.read_text(encoding="utf-8", errors="replace")))
        except OSError:
            continue
    return Unit(name, merged, unit.environment_files, unit.user, unit.program, unit.pid)


def parse_unit(name: str, text: str) -> Unit | None:
    """A unit from what `systemctl show` prints, one KEY=value a line; None when it is not loaded."""
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator:
            values.setdefault(key, []).append(value)
    if values.get("LoadState", [""])[0] != "loaded":
        return None
    program = _EXEC.search(" ".join(values.get("ExecStart", ())))
    pid = values.get("MainPID", ["0"])[0]
    files = [_FILE.match(v) for v in values.get("EnvironmentFiles", ()) if v]
    return Unit(
        name=name,
        environment=_assignments(" ".join(values.get("Environment", ()))),
        environment_files=tuple(Path(f.group(1)) for f in files if f),
        user=values.get("User", [""])[0] or None,
        program=Path(program.group(1)) if program else None,
        pid=int(pid) if pid.isdigit() and pid != "0" else None,
    )


def parse_environment_file(text: str) -> dict[str, str]:
    """The variables of an EnvironmentFile: NAME=value lines, comments with # or ;, quotes as in a shell."""
    found: dict[str, str] = {}
    for line in text.replace("\\\n", " ").splitlines():
        line = line.strip()
        name, separator, value = line.partition("=")
        if not separator or line.startswith(("#", ";")):
            continue
        found[name.strip()] = value.strip().strip("\"'")
    return found


def _assignments(text: str) -> dict[str, str]:
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    return {name: value for name, separator, value in (w.partition("=") for w in words) if separator and name}
