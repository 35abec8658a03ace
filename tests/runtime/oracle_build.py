"""Build the judge: Ollama's own source of the pinned version, with doors added to its unexported rules.

The source comes from Go's module cache and is copied (files there must not be changed), so that our small files can
join its packages; its own go.mod and go.sum serve.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MODULE = "github.com/ollama/ollama@v0.32.14"
FILES = Path(__file__).parent / "oracle"
_NOT_NEEDED = shutil.ignore_patterns("*_test.go", "testdata", "docs", "app", "integration", ".git*")


class Oracle:
    """Asks Ollama's code; one process answers a whole batch."""

    def __init__(self, program: Path) -> None:
        self.program = program

    def ask(self, questions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answers, in order."""
        lines = "".join(json.dumps(q) + "\n" for q in questions)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("OLLAMA_", "LLAMA_ARG_", "GGML_", "CUDA_"))}
        done = subprocess.run([self.program], input=lines.encode(), capture_output=True, timeout=120, env=clean)
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-2000:]
        return [json.loads(line) for line in done.stdout.splitlines()]


def cached(folder: Path, scratch: Path) -> Oracle:
    """The judge from `folder` when it was built there from the same files, else built now and kept."""
    told = hashlib.sha256(MODULE.encode())
    for file in sorted(FILES.rglob("*.txt")):
        told.update(file.read_bytes())
    kept = folder / f"ollama-oracle-{told.hexdigest()[:16]}"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = build(scratch)
        unfinished = kept.with_name(f"{kept.name}.{os.getpid()}")
        shutil.copy(made.program, unfinished)
        unfinished.rename(kept)
    return Oracle(kept)


def build(folder: Path) -> Oracle:
    """Copy, add and compile: half a minute on a quiet machine."""
    told = subprocess.run(["go", "mod", "download", "-json", MODULE], capture_output=True, check=True, timeout=300)
    source = folder / "ollama"
    shutil.copytree(json.loads(told.stdout)["Dir"], source, ignore=_NOT_NEEDED)
    subprocess.run(["chmod", "-R", "u+w", str(source)], check=True)
    for door in FILES.glob("shims/*.go.txt"):
        shutil.copy(door, source / door.name.removesuffix(".go.txt") / "oracle_doors.go")
    (source / "oracle").mkdir()
    shutil.copy(FILES / "main.go.txt", source / "oracle" / "main.go")
    program = folder / "oracle"
    made = subprocess.run(
        ["go", "build", "-o", str(program), "./oracle"], cwd=source, capture_output=True, text=True, timeout=900
    )
    assert made.returncode == 0, made.stderr[-3000:]
    shutil.rmtree(source)
    return Oracle(program)
