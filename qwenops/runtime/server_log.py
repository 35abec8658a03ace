"""The server's log: where it lies, and what it says of the server's own settings at its start.

Source: server/routes.go (Serve: "server config", "vram-based default context"), discover/gpu.go (LogDetails:
"inference compute"), envconfig/config.go (AsMap), app/server/server_unix.go and server_windows.go (the app's log
file), docs/linux.md (journalctl -u ollama); Ollama v0.32.14.
"""

from __future__ import annotations

import json
import mmap
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from os.path import isfile
from pathlib import Path

from qwenops.errors import QwenopsError
from qwenops.runtime.child import ask_program
from qwenops.runtime.envconfig import relevant

_CONFIG = 'msg="server config"'
_LINE_LIMIT_BYTES = 64 << 10
_ENV = re.compile(r'env=("(?:[^"\\]|\\.)*")')
_KEY = re.compile(
    r"(?:^|(?<= ))"
    r"((?:OLLAMA|LLAMA_ARG|CUDA|HIP|ROCR|GGML|GPU|HSA)_[A-Z0-9_]+|https?_proxy|no_proxy|HTTPS?_PROXY|NO_PROXY):"
)
_DEFAULT_CTX = re.compile(r'msg="vram-based default context".* default_num_ctx=(\d+)')
_FIELD = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|\S+)')
# What the log prints for variables that nobody set: it shows values, not whether they were given.
_UNSET = {
    "OLLAMA_DEBUG": "INFO",
    "OLLAMA_DEBUG_LOG_REQUESTS": "false",
    "OLLAMA_FLASH_ATTENTION": "false",
    "OLLAMA_GO_TEMPLATE": "true",
    "OLLAMA_GPU_OVERHEAD": "0",
    "OLLAMA_KEEP_ALIVE": "5m0s",
    "OLLAMA_LOAD_TIMEOUT": "5m0s",
    "OLLAMA_MAX_LOADED_MODELS": "0",
    "OLLAMA_MAX_QUEUE": "512",
    "OLLAMA_MAX_TRANSFER_STREAMS": "4",
    "OLLAMA_NOHISTORY": "false",
    "OLLAMA_NOPRUNE": "false",
    "OLLAMA_NO_CLOUD": "false",
    "OLLAMA_NUM_PARALLEL": "1",
    "OLLAMA_REMOTES": "[ollama.com]",
    "OLLAMA_SCHED_SPREAD": "false",
    "OLLAMA_CONTEXT_LENGTH": "0",
    "OLLAMA_VULKAN": "true",
}


@dataclass(frozen=True)
class LogFacts:
    """What the last start in a log says. `environment` has only what differs from the defaults."""

    source: str
    environment: Mapping[str, str] = field(default_factory=dict)
    default_num_ctx: int | None = None
    integrated: Mapping[str, bool] = field(default_factory=dict)


def log_file(place_home: Path | None, environment: Mapping[str, str], *, os: str) -> Path | None:
    """The log file that the desktop app keeps, where there is one."""
    if os == "windows":
        local = environment.get("LOCALAPPDATA")
        path = Path(local) / "Ollama" / "server.log" if local else None
    else:
        path = place_home / ".ollama" / "logs" / "server.log" if place_home else None
    return path if path is not None and isfile(path) else None


def read_log_file(path: Path) -> LogFacts | None:
    """The last start in a log file, however long it is; None where it says nothing or may not be read."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            at = text.rfind(_CONFIG.encode())
            if at < 0:
                return None
            start = text.rfind(b"\n", 0, at) + 1
            return parse_log(text[start : start + 4 * _LINE_LIMIT_BYTES].decode("utf-8", "replace"), f"log {path}")
    except (OSError, ValueError):
        return None


def read_journal(unit: str, *, user: bool = False, limit_s: float = 3.0) -> LogFacts | None:
    """The last start in the journal of a unit; None where there is none or it may not be read."""
    journalctl = shutil.which("journalctl")
    if journalctl is None:
        return None
    command = [journalctl, "--user-unit" if user else "--unit", unit, "--output=cat", "--no-pager", "--lines=50"]
    command += ["--grep=server config|vram-based default context|inference compute"]
    try:
        text = ask_program(command, limit_s=limit_s).out
    except QwenopsError:
        return None
    return parse_log(text, f"journal of {unit}")


def parse_log(text: str, source: str) -> LogFacts | None:
    """The facts of the last start in a piece of a log."""
    at = text.rfind(_CONFIG)
    if at < 0:
        return None
    tail = text[text.rfind("\n", 0, at) + 1 :]
    match = _ENV.search(tail.split("\n", 1)[0])
    printed = parse_go_map(_unquoted(match.group(1))) if match else {}
    context = _DEFAULT_CTX.search(tail)
    integrated = {}
    for line in tail.splitlines():
        if 'msg="inference compute"' in line:
            fields = {key: _unquoted(value) for key, value in _FIELD.findall(line)}
            if fields.get("name"):
                integrated[fields["name"]] = fields.get("type") == "iGPU"
    return LogFacts(
        source=source,
        environment=relevant({k: v for k, v in printed.items() if v and v != _UNSET.get(k)}),
        default_num_ctx=int(context.group(1)) if context else None,
        integrated=integrated,
    )


def parse_go_map(text: str) -> dict[str, str]:
    """A Go map as fmt prints it, map[KEY:value KEY:value]; values may hold spaces, keys are those of Ollama."""
    inner = text.removeprefix("map[").removesuffix("]")
    keys = list(_KEY.finditer(inner))
    ends = [*(key.start() for key in keys[1:]), len(inner)][: len(keys)]
    return {key.group(1): inner[key.end() : end].strip() for key, end in zip(keys, ends, strict=True)}


def _unquoted(text: str) -> str:
    """A value of the log without Go's quotes; Go's and JSON's escapes agree where Ollama uses them."""
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text.strip('"')
