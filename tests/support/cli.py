"""qwenops as a user calls it: a process of its own, with its exit code and both streams."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What one call left behind."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The JSON on stdout."""
        return json.loads(self.out)


def qwenops(*args: object, env: Mapping[str, str] | None = None, limit_s: float = 300) -> Answer:
    """Run a command; no OLLAMA_HOST of the caller's reaches it unless it is given."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("OLLAMA_")}
    done = subprocess.run(
        [sys.executable, "-m", "qwenops", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=limit_s,
        env={**own, "OLLAMA_HOST": "127.0.0.1:9", **(env or {})},
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)
