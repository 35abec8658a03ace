"""llama-server is found where Ollama itself would find it."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwenops.runtime import find as f
from tests.runtime.oracle_build import Oracle


def put(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"")


@pytest.mark.parametrize(
    ("goos", "files", "found"),
    [
        ("linux", ["bin/ollama", "lib/ollama/llama-server"], "lib/ollama/llama-server"),
        ("linux", ["ollama", "lib/ollama/llama-server"], "lib/ollama/llama-server"),
        ("linux", ["ollama", "build/lib/ollama/llama-server"], "build/lib/ollama/llama-server"),
        ("linux", ["ollama", "build/llama-server-cpu/bin/llama-server", "build/llama-server-cuda_v13/bin/llama-server"],
         "build/llama-server-cuda_v13/bin/llama-server"),
        ("darwin", ["Resources/ollama", "Resources/llama-server"], "Resources/llama-server"),
        ("darwin", ["bin/ollama", "lib/ollama/llama-server"], "lib/ollama/llama-server"),
        ("windows", ["ollama.exe", "lib/ollama/llama-server.exe"], "lib/ollama/llama-server.exe"),
        ("windows", ["ollama.exe", "lib/ollama/llama-server"], None),
        ("linux", ["bin/ollama"], None),
    ],
)  # fmt: skip
def test_the_layouts_of_ollama(tmp_path: Path, goos: str, files: list[str], found: str | None) -> None:
    put(tmp_path, *files)
    server = f.find_llama_server(tmp_path / files[0], goos=goos)
    assert server == (tmp_path / found if found else None)


@pytest.mark.parametrize(
    ("text", "build"),
    [
        ("version: 10434 (7e4c0a9)\nbuilt with GNU 11.4.0", "10434-7e4c0a9"),
        ("version: 0.1.0-dev (build 10434, commit 7e4c0a9)", "10434-7e4c0a9"),
        ("version: 0 (unknown)", "0-unknown"),
        ("error: no such option", None),
    ],
)
def test_the_build_is_read(text: str, build: str | None) -> None:
    assert f.parse_build(text) == build


def test_ollama_is_found_on_the_path(tmp_path: Path) -> None:
    put(tmp_path, "real/ollama")
    (tmp_path / "real/ollama").chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ollama").symlink_to(tmp_path / "real/ollama")
    assert f.find_ollama({"PATH": str(tmp_path / "bin")}) == (tmp_path / "real/ollama").resolve()


@pytest.mark.go
@pytest.mark.slow
def test_ollama_itself_looks_in_the_same_places_in_the_same_order(oracle: Oracle, tmp_path: Path) -> None:
    put(tmp_path, *(f"bin/build/llama-server-{kind}/bin/x" for kind in ("cpu", "rocm_v7", "a")))
    exe, work = tmp_path / "bin/ollama", tmp_path / "work"
    put(tmp_path, "work/build/llama-server-darwin/bin/x")
    for goos, name in (("linux", "llama-server"), ("darwin", "llama-server"), ("windows", "llama-server.exe")):
        lib = f.lib_ollama(exe, working_dir=work, goos=goos)
        question = {"op": "candidates", "Exe": str(exe), "Dir": str(work), "Lib": str(lib), "Goos": goos}
        (answer,) = oracle.ask([{**question, "Goarch": f.this_arch()}])
        ours = list(dict.fromkeys(str(folder / name) for folder in f._binary_candidates(exe, work, goos)))
        assert ours == answer["paths"]
