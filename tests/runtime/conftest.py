"""What the tests of the runtime share: the judge, and a shell that says nothing about Ollama."""

from __future__ import annotations

import pytest

from tests.runtime.oracle_build import Oracle, cached
from tests.support.parts import layout


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    """Ollama's own rules, compiled once and kept beside the other parts. Mark the test `go` and `slow`."""
    return cached(layout().root / "oracles", tmp_path_factory.mktemp("ollama-oracle"))


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the person's own shell says about Ollama."""
    import os

    for name in list(os.environ):
        if name.startswith(("OLLAMA_", "LLAMA_ARG_")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
