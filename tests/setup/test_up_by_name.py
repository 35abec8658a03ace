"""From a name to a model that sees: found, chosen, downloaded once, registered by link, loaded, shown a picture."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.cli import qwenops
from tests.support.server import OllamaServer
from tests.support.tiny import TinyModel
from tests.support.web import Web, serving

pytestmark = [pytest.mark.server, pytest.mark.slow]

FAMILIES = {"qwen3vl": "qwen3-vl", "qwen25vl": "qwen2.5-vl", "qwen35": "qwen3.5"}


@pytest.fixture
def cdn() -> Iterator[Web]:
    with serving("127.0.0.2") as web:
        yield web


@pytest.fixture
def hub(cdn: Web, request: pytest.FixtureRequest) -> Iterator[Web]:
    """A hub with the small models of three families, each in a repository of its own."""
    with serving() as web:
        for family in FAMILIES:
            tiny: TinyModel = request.getfixturevalue(f"tiny_{family}")
            files = {p.name: p for p in (tiny.model, tiny.projector)}
            web.repository(f"maker/tiny-{family}-GGUF", files, cdn, true_digests=True)
        yield web


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A configuration folder whose catalogue knows the small models by name."""
    config = tmp_path / "home" / "config"
    config.mkdir(parents=True)
    rows = [
        f'[models.tiny-{family}]\nnames = ["tiny-{family}:1"]\nfamily = "{known}"\n'
        f'[[models.tiny-{family}.repos]]\nrepo = "maker/tiny-{family}-GGUF"\n'
        f'model = "tiny-{family}-{{quant}}.gguf"\nprojector = "mmproj-tiny-{family}-{{type}}.gguf"\n'
        for family, known in FAMILIES.items()
    ]
    (config / "catalog.toml").write_text("\n".join(rows))
    return tmp_path / "home"


@pytest.fixture
def env(hub: Web, home: Path, tmp_path: Path, start_server: Callable[..., OllamaServer]) -> Mapping[str, str]:
    server = start_server(gpu=False)
    return {
        "OLLAMA_HOST": server.url,
        "OLLAMA_MODELS": str(server.store),
        "QWENOPS_HOME": str(home),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "",
    }


def used_bytes(*folders: str) -> int:
    """What the folders take on the disk together; a file with several links counts once."""
    seen = {(s.st_dev, s.st_ino): s.st_blocks * 512 for f in folders for p in Path(f).rglob("*") if (s := p.stat())}
    return sum(seen.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_up_by_name_ends_with_a_model_that_sees_and_one_copy_of_its_weights(
    env: Mapping[str, str], cdn: Web, family: str, request: pytest.FixtureRequest
) -> None:
    tiny: TinyModel = request.getfixturevalue(f"tiny_{family}")
    size = tiny.model.stat().st_size + tiny.projector.stat().st_size
    store, cache = env["OLLAMA_MODELS"], env["HF_HOME"]
    Path(cache).mkdir()
    before = used_bytes(store, cache)
    asked = ("up", f"tiny-{family}:1", "--ctx", 4096, "--images", 1, "--name", f"eyes-{family}", "--json")
    first = qwenops(*asked, env=env)
    assert first.code == 0, first.err
    data = first.data
    assert data["brought"]["bytes"] == pytest.approx(size, rel=0.01)
    assert data["registered"]["bytes_copied"] == 0
    assert data["verified"]["ok"]
    assert data["sight"]["grew_by_tokens"] > 0
    assert used_bytes(store, cache) - before < 1.05 * size + 2**20

    sent = cdn.sent_bytes
    again = qwenops(*asked, env=env)
    assert again.code == 0, again.err
    assert not again.data["brought"]["fetched"]
    assert not again.data["registered"]["changed"]
    assert cdn.sent_bytes - sent < 2**20


def test_a_dry_run_downloads_nothing(env: Mapping[str, str], cdn: Web) -> None:
    answer = qwenops("up", "tiny-qwen3vl:1", "--ctx", 4096, "--dry-run", env=env)
    assert answer.code == 0, answer.err
    assert "Would download" in answer.out
    assert not (Path(env["HF_HOME"]) / "hub").exists()


def test_killed_while_it_downloads_and_run_again_it_goes_on(
    env: Mapping[str, str], cdn: Web, tiny_qwen3vl: TinyModel
) -> None:
    size = tiny_qwen3vl.model.stat().st_size + tiny_qwen3vl.projector.stat().st_size
    args = [sys.executable, "-m", "qwenops", "up", "tiny-qwen3vl:1", "--ctx", "4096", "--name", "cut", "--no-load"]
    child = subprocess.Popen(args, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    hub_cache = Path(env["HF_HOME"]) / "hub"
    until = time.monotonic() + 60
    while time.monotonic() < until and not list(hub_cache.rglob("*.qwenops.incomplete")) and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    done = qwenops("up", "tiny-qwen3vl:1", "--ctx", 4096, "--name", "cut", "--no-load", "--json", env=env)
    assert done.code == 0, done.err
    assert done.data["registered"]["bytes_copied"] == 0
    assert used_bytes(str(hub_cache)) < 1.05 * size + 2**20


def test_offline_takes_what_was_brought_before(env: Mapping[str, str], hub: Web, cdn: Web) -> None:
    args = ("up", "tiny-qwen3vl:1", "--ctx", 4096, "--name", "here", "--no-load", "--json")
    assert qwenops(*args, env=env).code == 0
    before = [r.path for r in (*hub.requests, *cdn.requests)]
    answer = qwenops(*args, "--offline", env=env)
    assert answer.code == 0, answer.err
    assert sorted(before) == sorted(r.path for r in (*hub.requests, *cdn.requests))
