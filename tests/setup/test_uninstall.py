"""Uninstalling takes back what was made, and keeps its list where a model may be left."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from qwenops import history, paths
from qwenops.ollama import ledger
from qwenops.ollama.register import register
from qwenops.setup.uninstall import uninstall_result
from tests.ollama.support import minimal_gguf, spec_for, store_alone
from tests.runtime.test_client import free_port


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{free_port()}")


def test_a_store_that_was_deleted_holds_nothing_up(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    register(spec_for(minimal_gguf(tmp_path / "model.gguf")), "model", store_alone(tmp_path / "store"))
    shutil.rmtree(tmp_path / "store")

    result = uninstall_result(yes=True, keep_models=False)

    assert (result.exit_code, result.notes) == (0, ())
    assert not paths.data_dir().exists()


def test_a_server_that_does_not_answer_may_have_the_model_still(tmp_path: Path) -> None:
    ledger.record_model(f"http://127.0.0.1:{free_port()}", "far:latest", "d")

    result = uninstall_result(yes=True, keep_models=False)

    assert result.exit_code == 1
    assert "No Ollama server listens" in result.notes[0]
    with history.open() as kept:
        assert [row.name for row in kept.made("model")] == ["far:latest"]
