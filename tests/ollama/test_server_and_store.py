"""What the real server does with a store that we wrote: keeps it, prunes around it, or shows that it is not its own."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenops.errors import BadInput, CheckFailed
from qwenops.ollama.models import list_models, show_model
from qwenops.ollama.register import register
from qwenops.ollama.remove import remove_model
from qwenops.ollama.types import Message, Spec
from qwenops.runtime.client import Client
from qwenops.runtime.store import open_store
from tests.ollama.support import manifest_of, runtime_of, snapshot, spec_for
from tests.support.server import OllamaServer, start_ollama
from tests.support.tiny import TinyModel

pytestmark = pytest.mark.server
StartServer = Callable[..., OllamaServer]


def test_a_restart_keeps_a_link_that_looks_old(tmp_path: Path, smollm: Path) -> None:
    """A starting server prunes blobs older than an hour that no manifest names; a link keeps the file's old time."""
    file = tmp_path / "old.gguf"
    file.write_bytes(smollm.read_bytes())
    os.utime(file, (1_600_000_000, 1_600_000_000))
    server = start_ollama(tmp_path / "server", gpu=False)
    try:
        register(spec_for(file, parameters={"num_ctx": 256}), "kept", runtime_of(server))
        orphan = server.store / "blobs" / f"sha256-{'0' * 64}"
        orphan.write_bytes(b"nobody names me")
        os.utime(orphan, (1_600_000_000, 1_600_000_000))
        before = snapshot(server.store)
    finally:
        server.stop()
    again = start_ollama(tmp_path / "again", store=server.store, gpu=False)
    try:
        _until(lambda: not orphan.exists())
        assert set(before) - set(snapshot(server.store)) == {f"blobs/{orphan.name}"}
        assert Client(again.url).generate("kept", "Hi", options={"num_predict": 2}).tokens > 0
        assert list_models(runtime_of(again))[0].state == "ok"
        assert file.stat().st_mtime == 1_600_000_000, "the user's file keeps its time"
    finally:
        again.stop()


def test_a_store_that_is_not_the_servers_is_left_alone(
    start_server: StartServer, tmp_path: Path, tiny_qwen3vl: TinyModel
) -> None:
    """A volume of a container looks like this: a local address, and a folder here that the server never sees."""
    server = start_server(gpu=False)
    stranger = tmp_path / "another store"
    stranger.mkdir()
    runtime = replace(runtime_of(server), store=open_store(stranger, "guess"))
    spec = Spec(shards=(tiny_qwen3vl.model,))

    with pytest.raises(CheckFailed, match="did not show mine:latest"):
        register(spec, "mine", runtime, via="store")
    assert snapshot(stranger) == {}
    assert list(stranger.iterdir()) == []
    done = register(spec, "mine", runtime)

    assert done.how == "uploaded"
    assert any("is not the store of the server" in note for note in done.notes)
    assert [t.name for t in Client(server.url).tags()] == ["mine:latest"]
    assert list(stranger.iterdir()) == []
    with pytest.raises(CheckFailed, match="it lacks mine:latest"):
        register(spec, "other", runtime, via="store")


def test_the_api_way_says_what_it_copied_and_knows_its_model_again(
    start_server: StartServer, tiny_qwen3vl: TinyModel
) -> None:
    server = start_server(gpu=False)
    runtime = runtime_of(server)
    spec = Spec(shards=(tiny_qwen3vl.model,), projectors=(tiny_qwen3vl.projector,), parameters={"num_ctx": 512})
    size = tiny_qwen3vl.model.stat().st_size
    sent: list[str] = []

    first = register(spec, "by-api", runtime, via="api", progress=lambda what, done, total: sent.append(what))
    second = register(spec, "by-api", runtime, via="api")

    assert (first.how, first.changed, second.changed) == ("uploaded", True, False)
    assert first.bytes_copied == 2 * size + tiny_qwen3vl.projector.stat().st_size
    assert any("two copies" in note for note in first.notes)
    assert f"uploading {tiny_qwen3vl.model.name}" in sent
    assert "vision" in show_model(runtime, "by-api").capabilities
    Client(server.url).create("by-api", from_="by-api", system="someone else was here")
    with pytest.raises(BadInput, match="was changed since"):
        register(spec, "by-api", runtime, via="api")


def test_our_small_blobs_and_configuration_are_those_of_ollama_create(
    start_server: StartServer, tiny_qwen25vl: TinyModel
) -> None:
    """The same words by the store and by the API: only the model blob differs, which create rewrites."""
    server = start_server(gpu=False)
    runtime = runtime_of(server)
    spec = Spec(
        shards=(tiny_qwen25vl.model,),
        projectors=(tiny_qwen25vl.projector,),
        parameters={
            "num_ctx": 2048,
            "temperature": 0.7,
            "top_p": 0.95,
            "min_p": 0.0,
            "presence_penalty": 1.5,
            "use_mmap": False,
            "stop": ["<|im_end|>", "a & b"],
        },
        template="{{ .System }} {{ .Prompt }}",
        system="sys <tem>\n\tend",
        license=("MIT", "second"),
        messages=(Message("user", "a > b"), Message("assistant", "yes")),
        renderer="qwen3-vl-instruct",
        parser="qwen3-vl-instruct",
        requires="0.14.0",
    )
    register(spec, "by-link", runtime, via="store")
    register(spec, "by-create", runtime, via="api")

    ours, theirs = (manifest_of(server.store, name) for name in ("by-link", "by-create"))

    assert _rows(ours, without=".model") == _rows(theirs, without=".model")
    our_config, their_config = (_blob(server.store, m["config"]) for m in (ours, theirs))
    rootfs = our_config.pop("rootfs")
    assert our_config == their_config
    assert list(our_config) == list(their_config)
    assert rootfs["diff_ids"] == [row["digest"] for row in ours["layers"]]
    shown = [Client(server.url).show(name) for name in ("by-link", "by-create")]
    for key in ("parameters", "template", "system", "license", "messages", "details", "capabilities"):
        assert _plain(shown[0].get(key)) == _plain(shown[1].get(key)), key


def test_a_model_made_from_one_that_ollama_has_costs_nothing(start_server: StartServer, smollm: Path) -> None:
    server = start_server(gpu=False)
    runtime = runtime_of(server)
    register(Spec(shards=(smollm,), parameters={"num_ctx": 256}), "base", runtime)
    blobs = len(list((server.store / "blobs").iterdir()))

    done = register(Spec(base="base", parameters={"num_ctx": 512}, system="new"), "derived", runtime)

    assert (done.bytes_copied, done.changed) == (0, True)
    assert len(list((server.store / "blobs").iterdir())) <= blobs + 3
    assert show_model(runtime, "derived").parameters["num_ctx"] == 512
    assert list_models(runtime)[0].state == "ok", "Ollama touched the linked file, and it is still right"
    remove_model(runtime, "derived")
    remove_model(runtime, "base")
    assert smollm.exists()


def test_ctrl_c_while_a_large_file_is_read_ends_at_once_and_leaves_nothing(
    start_server: StartServer, tmp_path: Path, qwenops_home: Path
) -> None:
    server = start_server(gpu=False)
    file = tmp_path / "large.gguf"
    from tests.ollama.support import minimal_gguf

    minimal_gguf(file)
    os.truncate(file, 8 << 30)
    before = snapshot(server.store)
    code = f"""
from pathlib import Path
from tests.ollama.support import spec_for
from qwenops.ollama.register import register
from qwenops.runtime.store import open_store
from qwenops.runtime.types import Runtime
store = open_store(Path({str(server.store)!r}), "OLLAMA_MODELS")
runtime = Runtime(place="local", url={server.url!r}, version="0.32.14", store=store)
tell = lambda what, done, total: print(what, done, flush=True)
register(spec_for(Path({str(file)!r})), "large", runtime, progress=tell)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ}, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline().startswith("reading large.gguf")
    child.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, said = child.communicate(timeout=30)

    assert child.returncode != 0
    assert "KeyboardInterrupt" in said
    assert time.monotonic() - started < 10
    assert snapshot(server.store) == before


def _rows(manifest: dict[str, Any], *, without: str) -> list[tuple[str, str, int]]:
    rows = [(row["mediaType"], row["digest"], row["size"]) for row in manifest["layers"]]
    return sorted(row for row in rows if not row[0].endswith(without))


def _blob(store: Path, row: dict[str, Any]) -> dict[str, Any]:
    raw = (store / "blobs" / row["digest"].replace(":", "-")).read_bytes()
    assert row["digest"] == "sha256:" + hashlib.sha256(raw).hexdigest()
    loaded: dict[str, Any] = json.loads(raw)
    return loaded


def _plain(value: Any) -> Any:
    """Without what names the parent, which differs, and in one order."""
    if isinstance(value, dict):
        return {k: v for k, v in value.items() if k != "parent_model"}
    return sorted(value.splitlines()) if isinstance(value, str) else value


def _until(happened: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
