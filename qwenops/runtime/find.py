"""Find Ollama's programs: `ollama` itself, its lib/ollama folder, and llama-server as Ollama would find it.

Source: llm/llama_binary.go (llamaCppBinaryCandidates), ml/path.go (libOllamaPathCandidates), app/server/server.go
(where the app keeps its `ollama`); Ollama v0.32.14.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from qwenops.errors import QwenopsError
from qwenops.runtime.child import ask_program

_GO_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
# "version: 10434 (7e4c0a9)" and, from 2026 on, "version: 0.1.0 (build 10434, commit 7e4c0a9)".
_BUILD = re.compile(
    r"version:.*?(?:build\s+(?P<new>\d+),\s+commit\s+|b?(?P<old>\d+)\s+\()(?P<commit>[0-9a-f]+|unknown)"
)
_COMMON_PLACES = {
    "linux": ("/usr/local/bin/ollama", "/usr/bin/ollama", "/opt/ollama/bin/ollama", "/snap/bin/ollama"),
    "darwin": (
        "/Applications/Ollama.app/Contents/Resources/ollama",
        "/usr/local/bin/ollama",
        "/opt/homebrew/bin/ollama",
    ),
    "windows": (r"%LOCALAPPDATA%\Programs\Ollama\ollama.exe", r"%ProgramFiles%\Ollama\ollama.exe"),
}


def this_os() -> str:
    """The system in Go's word: linux, darwin, windows."""
    return {"win32": "windows"}.get(sys.platform, sys.platform)


def this_arch() -> str:
    """The processor in Go's word: amd64, arm64."""
    machine = platform.machine().lower()
    return _GO_ARCHITECTURES.get(machine, machine)


def find_ollama(environment: Mapping[str, str] | None = None) -> Path | None:
    """The installed `ollama`: on PATH first, then where the installers put it."""
    environment = os.environ if environment is None else environment
    on_path = shutil.which("ollama", path=environment.get("PATH"))
    if on_path:
        return Path(on_path).resolve()
    for place in _COMMON_PLACES.get(this_os(), ()):
        path = Path(os.path.expandvars(place))
        if os.path.isfile(path):
            return path.resolve()
    return None


def lib_ollama(ollama: Path, *, working_dir: Path | None = None, goos: str | None = None) -> Path:
    """The folder of the llama.cpp libraries that belongs to an `ollama`, or its own folder where there is none."""
    for folder in _lib_candidates(ollama.parent, working_dir, goos or this_os()):
        if os.path.isdir(folder):
            return folder
    return ollama.parent


def find_llama_server(ollama: Path, *, working_dir: Path | None = None, goos: str | None = None) -> Path | None:
    """The llama-server that this `ollama` would start, or None. `working_dir` is the server's, where known."""
    goos = goos or this_os()
    name = "llama-server.exe" if goos == "windows" else "llama-server"
    return next(
        (f / name for f in _binary_candidates(ollama, working_dir, goos) if os.path.exists(f / name)),
        None,
    )


def llama_server_build(llama_server: Path, environment: Mapping[str, str], *, limit_s: float = 20.0) -> str | None:
    """The llama.cpp build and commit of a llama-server ("10434-7e4c0a9"), or None when it does not say."""
    try:
        answer = ask_program([str(llama_server), "--version"], environment=environment, limit_s=limit_s)
    except QwenopsError:
        return None
    return parse_build(answer.both)


def parse_build(text: str) -> str | None:
    """Build number and commit in what `llama-server --version` prints; a build from an archive has number 1 or 0."""
    match = _BUILD.search(text)
    return f"{match['new'] or match['old']}-{match['commit']}" if match else None


def _up(folder: Path) -> Path:
    """`folder/../lib/ollama` with the two dots taken out, as Go's filepath.Clean does."""
    return Path(os.path.normpath(folder / ".." / "lib" / "ollama"))


def _lib_candidates(base: Path, working_dir: Path | None, goos: str) -> Iterator[Path]:
    beside, above = base / "lib" / "ollama", _up(base)
    yield from (above, beside) if goos == "linux" else (beside, above)
    yield from _local(base, goos)
    if goos == "darwin":
        yield base
    if working_dir:
        yield from _local(working_dir, goos)


def _binary_candidates(ollama: Path, working_dir: Path | None, goos: str) -> Iterator[Path]:
    base = ollama.parent
    yield lib_ollama(ollama, working_dir=working_dir, goos=goos)
    if goos == "darwin":
        yield base
    if goos != "linux":
        yield base / "lib" / "ollama"
    yield _up(base)
    yield from _local(base, goos)
    if working_dir:
        yield from _local(working_dir, goos)
    yield from _build_outputs(base)
    if working_dir:
        yield from _build_outputs(working_dir)


def _local(base: Path, goos: str) -> Iterator[Path]:
    """Folders of a developer's build."""
    yield base / "build" / "lib" / "ollama"
    yield base / "dist" / f"{goos}-{this_arch()}" / "lib" / "ollama"
    yield base / "dist" / f"{goos}_{this_arch()}" / "lib" / "ollama"
    if goos == "darwin":
        yield base / "dist" / "darwin"


def _build_outputs(base: Path) -> list[Path]:
    def rank(path: Path) -> tuple[bool, str]:
        preferred = ("llama-server-darwin", "llama-server-cuda", "llama-server-rocm")
        return not any(word in str(path) for word in preferred), str(path)

    return sorted((base / "build").glob("llama-server-*/bin"), key=rank)
