"""An NVML made for the tests: a real shared library, compiled here, that answers from a scenario file.

It is loaded by the real pynvml in a child process, since pynvml keeps the first library that it finds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.parts import in_ci

SOURCE = Path(__file__).with_name("nvml.c")
SONAME = "libnvidia-ml.so.1"
ROOT = Path(__file__).resolve().parents[3]

_DETECT = """
import dataclasses, json, pathlib, sys
from qwenops.machine.detect import detect
machine = detect(root=pathlib.Path(sys.argv[1]))
json.dump(dataclasses.asdict(machine), sys.stdout)
"""


def build_library(folder: Path, without: tuple[str, ...] = ()) -> Path:
    """Compile the library into `folder`, leaving the named functions out; returns its path."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler or not sys.platform.startswith("linux"):
        why = "the NVML of the tests needs Linux and a C compiler"
        if in_ci():
            pytest.fail(why, pytrace=False)
        pytest.skip(why)
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / SONAME
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", f"-Wl,-soname,{SONAME}"]
        + [f"-DWITHOUT_{name}" for name in without]
        + ["-o", str(library), str(SOURCE)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return library


@dataclass(frozen=True)
class FakeNvml:
    """A compiled library and the folder for its scenarios."""

    library: Path
    folder: Path

    def environment(self, scenario: str, *, in_path: bool = True) -> dict[str, str]:
        """This process's environment with the library in the loader's path and `scenario` as its world."""
        file = self.folder / "scenario.txt"
        file.write_text(scenario, encoding="utf-8")
        environment = {**os.environ, "QWENOPS_TEST_NVML": str(file)}
        environment.pop("LD_LIBRARY_PATH", None)
        if in_path:
            environment["LD_LIBRARY_PATH"] = str(self.library.parent)
        return environment

    def detect(self, scenario: str, root: Path = Path("/"), *, in_path: bool = True) -> dict[str, Any]:
        """What `detect()` says in a process that sees this NVML, as plain values."""
        done = subprocess.run(
            [sys.executable, "-c", _DETECT, str(root)],
            env=self.environment(scenario, in_path=in_path),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer
