"""The whole story on a real Ollama: up, up again, list, show, verify, doctor, uninstall."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.cli import qwenops
from tests.support.server import OllamaServer

pytestmark = [pytest.mark.server, pytest.mark.slow]


def env_of(server: OllamaServer, home: Path) -> Mapping[str, str]:
    return {"OLLAMA_HOST": server.url, "OLLAMA_MODELS": str(server.store), "QWENOPS_HOME": str(home)}


@pytest.mark.vulkan
def test_up_sets_a_model_up_and_the_second_time_changes_nothing(
    ollama_server: OllamaServer, smollm: Path, tmp_path: Path
) -> None:
    env = env_of(ollama_server, tmp_path / "home")
    own = tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    os.link(smollm, own)
    first = qwenops("up", own, "--name", "up-test", "--ctx", 2048, "--ubatch", 512, "--json", env=env)
    assert first.code == 0, first.err
    data = first.data
    assert data["registered"]["how"] in {"linked", "reflinked"}
    assert data["registered"]["bytes_copied"] == 0
    assert data["registered"]["changed"]
    assert data["verified"]["ok"]
    assert data["verified"]["layers"] == {"on_device": 31, "total": 31}
    assert abs(data["verified"]["predicted_bytes"] - data["verified"]["measured_bytes"]) < 3 * 1024**2
    assert Path(data["modelfile"]["path"]).read_text() == data["modelfile"]["text"]

    again = qwenops("up", own, "--name", "up-test", "--ctx", 2048, "--ubatch", 512, "--json", env=env)
    assert again.code == 0, again.err
    assert not again.data["registered"]["changed"]
    assert again.data["verified"] is None
    assert again.data["verified_before"]

    listed = qwenops("list", "--json", env=env)
    assert {"up-test:latest": "ok"}.items() <= {m["name"]: m["state"] for m in listed.data["models"]}.items()
    shown = qwenops("show", "up-test", "--json", env=env)
    assert shown.data["parameters"]["num_ctx"] == 2048
    history = qwenops("history", "--json", env=env)
    assert [row["ok"] for row in history.data["loads"]] == [True]
    predicted = history.data["loads"][0]["predicted"]
    assert [predicted["rung"], *(other["rung"] for other in predicted["also"])] == ["runtime", "closed form"]

    shown_first = qwenops("uninstall", env=env)
    assert "up-test" in shown_first.out
    assert "Would remove" in shown_first.out
    gone = qwenops("uninstall", "--yes", env=env)
    assert gone.code == 0, gone.err
    assert not (tmp_path / "home" / "data").exists()
    assert own.read_bytes()[:4] == b"GGUF"
    after = qwenops("list", "--json", env=env)
    assert "up-test:latest" not in {m["name"] for m in after.data["models"]}


def test_a_dry_run_shows_the_modelfile_and_changes_nothing(
    ollama_server: OllamaServer, smollm: Path, tmp_path: Path
) -> None:
    env = env_of(ollama_server, tmp_path / "home")
    answer = qwenops("up", smollm, "--name", "never", "--dry-run", env=env)
    assert answer.code == 0, answer.err
    assert "FROM " in answer.out
    assert "Nothing was changed" in answer.out
    assert not (tmp_path / "home" / "data").exists()
    assert "never" not in qwenops("list", env=env).out


def test_without_a_server_up_says_what_to_start_and_leaves_nothing(smollm: Path, tmp_path: Path) -> None:
    env = {"OLLAMA_HOST": "127.0.0.1:9", "OLLAMA_MODELS": str(tmp_path / "store"), "QWENOPS_HOME": str(tmp_path / "h")}
    answer = qwenops("up", smollm, "--name", "nobody", env=env)
    assert answer.code == 3
    assert "ollama serve" in answer.err
    assert not (tmp_path / "store").exists()


def test_the_doctor_finds_a_changed_file_a_small_context_and_a_stray_setting(
    ollama_server: OllamaServer, tiny_qwen3vl: object, tmp_path: Path
) -> None:
    env = env_of(ollama_server, tmp_path / "home")
    source: Path = tiny_qwen3vl.model  # type: ignore[attr-defined]
    model = tmp_path / source.name
    # Its own last weights: a file that the store has already would not be linked again.
    model.write_bytes(source.read_bytes()[:-16] + os.urandom(16))
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text(f"FROM {model}\nFROM {tiny_qwen3vl.projector}\n")  # type: ignore[attr-defined]
    done = qwenops("register", "small-eyes", "-f", modelfile, "--no-check", env=env)
    assert done.code == 0, done.err
    try:
        with model.open("r+b") as file:
            file.seek(source.stat().st_size - 64)
            file.write(b"overwritten in place")
        answer = qwenops("doctor", "--json", env={**env, "OLLAMA_KV_CACHE_TYPE": "q8_0"})
        found = {f["code"]: f for f in answer.data["findings"]}
        assert answer.code == 1
        assert found["context-too-small"]["observed"].startswith("4096")
        assert found["shell-settings"]["observed"] == "OLLAMA_KV_CACHE_TYPE=q8_0"
        assert "file-changed" in found
        assert found["file-changed"]["do"]
        model.unlink()
        hidden = qwenops("doctor", "--json", env=env).data["findings"]
        assert {f["code"] for f in hidden} & {"file-hidden", "file-changed"}
        for finding in answer.data["findings"]:
            if finding["level"] == "problem":
                assert finding["expected"] or finding["observed"]
    finally:
        qwenops("remove", "small-eyes", env=env)
