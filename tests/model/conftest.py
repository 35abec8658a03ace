"""Servers and files for tests of models that are somewhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model.elsewhere import REPO
from tests.support.shapes import TEXT, VISION, write_text, write_vision
from tests.support.web import Web, serving

ENVIRONMENT = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN",
)


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a vision model with a tokenizer of the real size: three quants, one of them also in shards."""
    folder = tmp_path_factory.mktemp("shelf")
    for quant in ("Q4_K_M", "Q6_K", "Q8_0"):
        write_text(folder / f"Eyes-8B-{quant}.gguf", TEXT["qwen3-vl-8b"], quant, vocabulary="full")
    for quant in ("F16", "F32"):
        write_vision(folder / f"mmproj-{quant}.gguf", VISION["qwen3-vl-8b"], quant)
    write_text(folder / "Wide-Q8_0.gguf", TEXT["qwen3.5-9b"], "Q8_0", vocabulary="full")
    return folder


@pytest.fixture
def host(own_environment: None) -> Iterator[Web]:
    """A plain host on this machine."""
    with serving() as web:
        yield web


@pytest.fixture
def cdn() -> Iterator[Web]:
    """A second host."""
    with serving("127.0.0.2") as web:
        yield web


@pytest.fixture
def hub(host: Web, cdn: Web, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Web:
    """A hub with one repository, whose files lie with a content network on another host."""
    monkeypatch.setenv("HF_ENDPOINT", host.url)
    names = [f"Eyes-8B-{quant}.gguf" for quant in ("Q4_K_M", "Q6_K", "Q8_0")]
    names += ["mmproj-F16.gguf", "mmproj-F32.gguf"]
    host.repository(REPO, {name: shelf / name for name in names}, cdn)
    return host
