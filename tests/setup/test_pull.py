"""Ollama's own pull: planned from the registry's header, fetched by the real server from a registry on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qwenops.errors import BadInput, PartMissing, ServerDown
from qwenops.ollama.types import silent
from qwenops.plan.types import Plan
from qwenops.runtime.types import Runtime
from qwenops.setup.answers import make_plan
from qwenops.setup.pull import in_library, is_pulled, pull_chosen
from tests.ollama.support import runtime_of, small_disk, store_alone
from tests.support.cli import qwenops
from tests.support.server import OllamaServer
from tests.support.tiny import TinyModel
from tests.support.web import Web, serving

ASKED = ("--ctx", 4096, "--no-load", "--json")


@pytest.fixture
def cdn() -> Iterator[Web]:
    with serving("127.0.0.2") as web:
        yield web


@pytest.fixture
def registry(cdn: Web, tiny_qwen3vl: TinyModel, tmp_path: Path) -> Iterator[Web]:
    """A registry with the small Qwen3-VL, its projector and what a library model has besides."""
    config, params = tmp_path / "config.json", tmp_path / "params.json"
    about = {"model_format": "gguf", "model_family": "qwen3vl", "model_families": ["qwen3vl"], "file_type": "F16"}
    config.write_text(json.dumps(about | {"renderer": "qwen3-vl-instruct", "parser": "qwen3-vl-instruct"}))
    params.write_text('{"temperature": 1, "num_predict": 5}')
    layers = {"model": tiny_qwen3vl.model, "projector": tiny_qwen3vl.projector, "params": params}
    with serving() as web:
        web.registry("library/eyes", "1b", layers, cdn, config=config)
        yield web


def reference(web: Web) -> str:
    return f"ollama:{web.host}:{web.port}/library/eyes:1b"


def planned(web: Web) -> Plan:
    made, _, _ = make_plan((reference(web),), None, gpu="48GiB", task="chat", ctx=4096)
    assert is_pulled(made)
    return made


def pulled(made: Plan, runtime: Runtime, name: str = "mine", **rest: Any) -> tuple[Plan, dict[str, Any]]:
    return pull_chosen(made, name, runtime, say=lambda _: None, progress=rest.pop("progress", silent), **rest)


@pytest.mark.server
@pytest.mark.slow
def test_up_pulls_once_and_makes_its_own_name_on_the_pulled_files(
    start_server: Callable[..., OllamaServer], registry: Web, cdn: Web, tiny_qwen3vl: TinyModel, tmp_path: Path
) -> None:
    server = start_server(gpu=False)
    env = {"OLLAMA_HOST": server.url, "OLLAMA_MODELS": str(server.store), "QWENOPS_HOME": str(tmp_path / "home")}
    size = tiny_qwen3vl.model.stat().st_size + tiny_qwen3vl.projector.stat().st_size
    dry = qwenops("up", reference(registry), "--name", "mine", "--dry-run", *ASKED, env=env)
    assert dry.code == 0, dry.err
    assert dry.data["brought"] == {"bytes": size, "fetched": False, "into": str(server.store)}
    assert not list((server.store / "blobs").glob("sha256-*"))
    first = qwenops("up", reference(registry), "--name", "mine", *ASKED, env=env)
    assert first.code == 0, first.err
    assert first.data["brought"]["fetched"]
    assert f"FROM {reference(registry)[7:]}" in first.data["modelfile"]["text"]
    assert "PARAMETER num_predict -1" in first.data["modelfile"]["text"]
    blobs = [p.stat().st_size for p in (server.store / "blobs").iterdir()]
    assert size <= sum(blobs) < size + 8192
    sent = cdn.sent_bytes
    again = qwenops("up", reference(registry), "--name", "mine", *ASKED, env=env)
    assert again.code == 0, again.err
    assert again.data["brought"] is None
    assert not again.data["registered"]["changed"]
    assert cdn.sent_bytes == sent
    shown = qwenops("show", "mine", "--json", env=env).data
    assert (shown["parameters"]["num_ctx"], shown["renderer"]) == (4096, "qwen3-vl-instruct")


@pytest.mark.server
@pytest.mark.slow
def test_killed_while_it_pulls_and_run_again_it_goes_on(
    start_server: Callable[..., OllamaServer], registry: Web, cdn: Web, tiny_qwen3vl: TinyModel, tmp_path: Path
) -> None:
    server = start_server(gpu=False)
    env = {"OLLAMA_HOST": server.url, "OLLAMA_MODELS": str(server.store), "QWENOPS_HOME": str(tmp_path / "home")}
    size = tiny_qwen3vl.model.stat().st_size
    killed, half_came = threading.Event(), threading.Event()

    def half(web: Web, handler: Any, request: Any) -> bool:
        """To who asks for the whole model half of it comes, then nothing more; its header is asked for by less."""
        if killed.is_set() or request.headers.get("Range") != f"bytes=0-{size - 1}":
            return False
        with tiny_qwen3vl.model.open("rb") as source:
            handler.answer(request, 206, {"Content-Length": str(size)}, source.read(size // 2))
        handler.wfile.flush()
        half_came.set()
        return killed.wait(60)

    cdn.bad = half
    args = [sys.executable, "-m", "qwenops", "up", reference(registry), "--name", "cut", *map(str, ASKED)]
    child = subprocess.Popen(args, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert half_came.wait(60)
    time.sleep(0.5)  # the last of it is on its way to the server
    child.send_signal(signal.SIGINT)
    assert child.wait(30) != 0
    time.sleep(0.5)  # the server hears that nobody waits, and notes what has come
    killed.set()
    sent = cdn.sent_bytes
    done = qwenops("up", reference(registry), "--name", "cut", *ASKED, env=env)
    assert done.code == 0, done.err
    assert done.data["brought"]["fetched"]
    assert cdn.sent_bytes - sent < 0.7 * size + tiny_qwen3vl.projector.stat().st_size


@pytest.mark.server
@pytest.mark.slow
def test_what_stands_in_the_way_of_a_pull_is_said_before_or_in_plain_words(
    start_server: Callable[..., OllamaServer], registry: Web, cdn: Web, tmp_path: Path
) -> None:
    made = planned(registry)
    server = start_server(gpu=False)
    runtime = runtime_of(server)
    with pytest.raises(PartMissing, match="not in your store"):
        pulled(made, runtime, offline=True)
    with pytest.raises(ServerDown, match="only the server can pull"):
        pulled(made, store_alone(tmp_path / "store"))
    (broken,) = [path for path, file in cdn.files.items() if file.name.startswith("tiny")]
    whole = cdn.files[broken]
    cdn.files[broken] = Path(__file__)
    with pytest.raises(PartMissing, match="digest mismatch"):
        pulled(made, runtime)
    cdn.files[broken] = whole
    here, _ = pulled(made, runtime)
    assert here.chosen is not None
    assert here.chosen.choice.model.stored == reference(registry)[7:]
    with pytest.raises(BadInput, match="exists in Ollama"):
        pulled(made, runtime, name=reference(registry)[7:])
    page = registry.pages["/v2/library/eyes/manifests/1b"]
    registry.pages.clear()
    with pytest.raises(BadInput, match="is not there"):
        pulled(made, runtime)
    registry.pages["/v2/library/eyes/manifests/1b"] = page


def test_a_disk_without_room_is_said_before_the_pull(registry: Web, tmp_path: Path) -> None:
    made = planned(registry)
    with small_disk(tmp_path / "disk", 20 * 2**20) as disk:
        there = store_alone(disk)
        runtime = Runtime(place="local", url="http://127.0.0.1:9", version="0.32.14", store=there.store)
        with pytest.raises(PartMissing, match=r"to be pulled into .* are free"):
            pulled(made, runtime)


LIBRARY = [
    ((Path("qwen3-vl:8b"),), None, ("ollama:qwen3-vl:8b-instruct-q8_0", "ollama:qwen3-vl:8b-instruct-q4_K_M")),
    ((Path("qwen3-vl:8b"),), "Q4_K_M", ("ollama:qwen3-vl:8b-instruct-q4_K_M",)),
    ((Path("qwen3-vl:8b-thinking"),), None, ("ollama:qwen3-vl:8b",)),
    (("ollama:eyes:1b",), None, ("ollama:eyes:1b",)),
]


@pytest.mark.parametrize(("typed", "quant", "references"), LIBRARY)
def test_a_name_of_the_catalogue_leads_to_its_tags_in_the_library(
    typed: tuple[Any, ...],
    quant: str | None,
    references: tuple[str, ...],
    registry: Web,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QWENOPS_REGISTRY", registry.url)
    manifest = registry.pages["/v2/library/eyes/manifests/1b"]
    for tag in ("8b-instruct-q8_0", "8b-instruct-q4_K_M"):
        registry.pages[f"/v2/library/qwen3-vl/manifests/{tag}"] = manifest
    assert in_library(typed, quant) == references


@pytest.mark.parametrize("typed", [(Path("nobody:8b"),), (Path("a.gguf"), Path("b.gguf"))])
def test_a_pull_of_what_is_no_name_is_refused(typed: tuple[Path, ...]) -> None:
    with pytest.raises(BadInput, match="--via pull is for a name"):
        in_library(typed)
