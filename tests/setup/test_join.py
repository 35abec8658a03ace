"""Split models: refused before a byte comes, with what would do; joined while they come, once on the disk."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.model.test_join import gguf_split
from tests.support.cli import qwenops
from tests.support.server import OllamaServer
from tests.support.tiny import TinyModel
from tests.support.web import Web, serving

__all__ = ["gguf_split"]

pytestmark = [pytest.mark.server, pytest.mark.slow]
REPO = "hf:maker/split"
ASKED = ("--ctx", 4096, "--name", "eyes", "--no-load", "--json")


@pytest.fixture
def cdn() -> Iterator[Web]:
    with serving("127.0.0.2") as web:
        yield web


@pytest.fixture
def shards(gguf_split: Path, tiny_qwen3vl: TinyModel, tmp_path: Path) -> list[Path]:
    """The small Qwen3-VL in shards of twelve tensors."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    command = [gguf_split, "--split", "--split-max-tensors", "12", tiny_qwen3vl.model, folder / "Tiny-F16"]
    subprocess.run(command, check=True, capture_output=True)
    return sorted(folder.glob("*.gguf"))


@pytest.fixture
def hub(cdn: Web, shards: list[Path], tiny_qwen3vl: TinyModel) -> Iterator[Web]:
    with serving() as web:
        files = {p.name: p for p in (*shards, tiny_qwen3vl.projector)}
        web.repository("maker/split", files, cdn, true_digests=True)
        yield web


@pytest.fixture
def env(hub: Web, tmp_path: Path, start_server: Callable[..., OllamaServer]) -> Mapping[str, str]:
    server = start_server(gpu=False)
    return {
        "OLLAMA_HOST": server.url,
        "OLLAMA_MODELS": str(server.store),
        "QWENOPS_HOME": str(tmp_path / "home"),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "",
    }


def used_bytes(*folders: str) -> int:
    """What the folders take on the disk together; a file with several links counts once."""
    seen = {(s.st_dev, s.st_ino): s.st_blocks * 512 for f in folders for p in Path(f).rglob("*") if (s := p.stat())}
    return sum(seen.values())


def test_shards_are_refused_before_the_download_with_what_each_way_takes(env: Mapping[str, str], cdn: Web) -> None:
    answer = qwenops("up", REPO, *ASKED, env=env)
    assert answer.code == 2
    assert "comes in 4 shards" in answer.err
    assert "--join (30.2 MiB on the disk, " in answer.err
    assert "--via api (60." in answer.err
    assert not list(Path(env["HF_HOME"]).rglob("blobs/*"))


def test_another_quant_in_one_file_is_offered_where_it_fits(
    env: Mapping[str, str], hub: Web, cdn: Web, shards: list[Path], tiny_qwen3vl: TinyModel, llama_quantize: Path
) -> None:
    small = shards[0].with_name("Tiny-Q8_0.gguf")
    subprocess.run([llama_quantize, tiny_qwen3vl.model, small, "Q8_0"], check=True, capture_output=True)
    files = {p.name: p for p in (*shards, small, tiny_qwen3vl.projector)}
    hub.repository("maker/split", files, cdn, true_digests=True)
    answer = qwenops("up", REPO, *ASKED, env=env)
    assert answer.code == 2
    assert "--quant Q8_0     (fits, and is one file of" in answer.err
    assert qwenops("up", REPO, "--quant", "Q8_0", *ASKED, env=env).code == 0


def test_up_joins_them_and_the_weights_are_on_the_disk_once(
    env: Mapping[str, str], cdn: Web, tiny_qwen3vl: TinyModel
) -> None:
    size = tiny_qwen3vl.model.stat().st_size + tiny_qwen3vl.projector.stat().st_size
    dry = qwenops("up", REPO, "--join", "--dry-run", *ASKED, env=env)
    assert dry.code == 0, dry.err
    assert "would join 4 shards into" in dry.err
    assert "Tiny-F16.gguf" in dry.data["modelfile"]["text"]
    done = qwenops("up", REPO, "--join", "--ctx", 4096, "--images", 0, "--name", "eyes", "--json", env=env)
    assert done.code == 0, done.err
    assert done.data["verified"]["ok"]
    assert done.data["registered"]["bytes_copied"] == 0
    assert used_bytes(env["OLLAMA_MODELS"], env["HF_HOME"], f"{env['QWENOPS_HOME']}/data") < 1.05 * size + 2**20
    sent = cdn.sent_bytes
    again = qwenops("up", REPO, "--ctx", 4096, "--images", 0, "--name", "eyes", "--json", env=env)
    assert again.code == 0, again.err
    assert not again.data["brought"]["fetched"]
    assert not again.data["registered"]["changed"]
    assert cdn.sent_bytes - sent < 2**20
    assert qwenops("remove", "eyes", env=env).code == 0
    gone = qwenops("gc", "--downloads", "--yes", env=env)
    assert gone.code == 0, gone.err
    assert not list(Path(env["QWENOPS_HOME"]).rglob("Tiny-F16.gguf"))


def test_stopped_in_a_later_shard_it_goes_on_there(env: Mapping[str, str], cdn: Web, shards: list[Path]) -> None:
    gone = {path: file for path, file in cdn.files.items() if file == shards[3]}

    def cut(web: Web, handler: Any, request: Any) -> bool:
        """Of the fourth shard the header can be read, and nothing else comes."""
        return request.path.partition("?")[0] in gone and "Range" not in request.headers

    cdn.bad = cut
    broken = qwenops("up", REPO, "--join", *ASKED, env=env)
    assert broken.code == 3, broken.err
    (partial,) = Path(env["QWENOPS_HOME"]).rglob("*.joining")
    assert partial.stat().st_size > sum(p.stat().st_size for p in shards[:3]) * 0.95
    cdn.bad = None
    sent = cdn.sent_bytes
    done = qwenops("up", REPO, "--join", *ASKED, env=env)
    assert done.code == 0, done.err
    assert cdn.sent_bytes - sent < sum(p.stat().st_size for p in shards[3:]) + 2 * 2**20
    assert not partial.exists()


def test_shards_that_are_here_are_joined_beside_them_and_stay(
    env: Mapping[str, str], shards: list[Path], tiny_qwen3vl: TinyModel
) -> None:
    answer = qwenops("up", shards[2], "--mmproj", tiny_qwen3vl.projector, *ASKED, env=env)
    assert answer.code == 2
    assert "beside the 30.2 MiB of shards that you have already" in answer.err
    done = qwenops("up", shards[2], "--mmproj", tiny_qwen3vl.projector, "--join", *ASKED, env=env)
    assert done.code == 0, done.err
    assert (shards[0].parent / "Tiny-F16.gguf").exists()
    assert all(p.exists() for p in shards)
