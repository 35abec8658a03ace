"""Ollama's own parser as the judge: a small Go program that links it, built once a run."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

ORACLE = Path(__file__).parent / "oracle"


class Judge:
    """Asks the Go program; one process answers the whole batch."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def ask(self, questions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        lines = "".join(json.dumps(q) + "\n" for q in questions)
        done = subprocess.run([self._program], input=lines.encode(), capture_output=True, check=True, timeout=120)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def parse(self, texts: Iterable[str | bytes]) -> list[dict[str, Any]]:
        return self.ask({"op": "parse", "text": _base64(t)} for t in texts)

    def requests(self, texts: Iterable[str], folder: Path) -> list[dict[str, Any]]:
        return self.ask({"op": "request", "text": _base64(t), "dir": str(folder)} for t in texts)


def _base64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    program = tmp_path_factory.mktemp("oracle") / "oracle"
    build = subprocess.run(["go", "build", "-o", program, "."], cwd=ORACLE, capture_output=True, text=True, timeout=500)
    assert build.returncode == 0, build.stderr
    return Judge(program)
