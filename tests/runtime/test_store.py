"""The store is read as Ollama reads it, and is only called the server's own when its list says so."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.errors import BadInput, CheckFailed
from qwenops.runtime import store as s
from qwenops.runtime.client import Client, TaggedModel
from qwenops.runtime.types import Store
from tests.runtime.oracle_build import Oracle
from tests.support.server import OllamaServer


def make_blob(folder: Path, data: bytes) -> tuple[str, int]:
    digest = hashlib.sha256(data).hexdigest()
    path = folder / "blobs" / f"sha256-{digest}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return f"sha256:{digest}", len(data)


def make_model(folder: Path, name: str, *, params: dict[str, Any] | None = None, weights: bytes = b"weights") -> Path:
    def layer(kind: str, data: bytes) -> dict[str, Any]:
        digest, size = make_blob(folder, data)
        return {"mediaType": kind, "digest": digest, "size": size}

    layers = [layer(s.MODEL, weights)]
    if params:
        layers.append(layer(s.PARAMS, json.dumps(params).encode()))
    config = layer(s.CONFIG, json.dumps({"model_format": "gguf", "model_family": "llama"}).encode())
    manifest = {"schemaVersion": 2, "mediaType": "m", "config": config, "layers": layers}
    path = folder / "manifests" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest) + "\n")
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return s.open_store(tmp_path, "test")


SMOL = "registry.ollama.ai/library/smol/latest"


def test_all_registries_and_namespaces_are_listed(store: Store) -> None:
    for name in (SMOL, "registry.ollama.ai/me/smol/q4", "hf.co/Qwen/Qwen3-VL/Q4_K_M"):
        make_model(store.path, name)
    listing = s.list_manifests(store)
    assert [m.name.short for m in listing.manifests] == ["hf.co/Qwen/Qwen3-VL:Q4_K_M", "smol:latest", "me/smol:q4"]
    assert listing.notes == ()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"layers": 3}', '{"layers": [3]}', '{"config": "x"}', "\xff"])
def test_a_broken_manifest_is_a_note_and_the_others_are_listed(store: Store, text: str) -> None:
    make_model(store.path, SMOL)
    broken = store.path / "manifests/registry.ollama.ai/library/broken/latest"
    broken.parent.mkdir(parents=True)
    broken.write_text(text, encoding="latin-1")
    listing = s.list_manifests(store)
    assert [m.name.short for m in listing.manifests] == ["smol:latest"]
    assert "broken/latest is not a manifest" in listing.notes[0]


def test_files_that_are_no_model_names_are_notes(store: Store) -> None:
    make_model(store.path, SMOL)
    (store.path / "manifests/registry.ollama.ai/library/smol/.DS_Store").write_text("x")
    listing = s.list_manifests(store)
    assert len(listing.manifests) == 1
    assert ".DS_Store is no model name" in listing.notes[0]


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert s.list_manifests(s.open_store(tmp_path / "nowhere", "test")) == s.Listing(())


def test_config_params_and_blobs_are_read(store: Store) -> None:
    make_model(store.path, SMOL, params={"num_ctx": 8192, "stop": ["<a>"]})
    manifest = s.read_manifest(store, "smol")
    assert s.read_config(store, manifest)["model_family"] == "llama"
    assert s.read_params(store, manifest) == {"num_ctx": 8192, "stop": ["<a>"]}
    assert s.missing_blobs(store, manifest) == ()
    (weights,) = manifest.of(s.MODEL)
    assert s.blob_path(store, weights.digest).read_bytes() == b"weights"
    assert manifest.size_bytes == sum(p.stat().st_size for p in (store.path / "blobs").iterdir())


def test_case_does_not_matter_to_a_name(store: Store) -> None:
    make_model(store.path, "registry.ollama.ai/library/Smol/Latest")
    assert s.read_manifest(store, "sMOL:latest").name.model == "Smol"


def test_a_blob_that_is_gone_or_short_is_named(store: Store) -> None:
    make_model(store.path, SMOL)
    manifest = s.read_manifest(store, "smol")
    (weights,) = manifest.of(s.MODEL)
    s.blob_path(store, weights.digest).write_bytes(b"w")
    assert s.missing_blobs(store, manifest) == (weights,)


@pytest.mark.parametrize("name", ["other", "a/../b", ""])
def test_a_model_that_is_not_there_is_bad_input(store: Store, name: str) -> None:
    make_model(store.path, SMOL)
    with pytest.raises(BadInput):
        s.read_manifest(store, name)


@pytest.mark.parametrize("digest", ["", "sha256:../../etc/passwd", "sha256:" + "g" * 64, "md5:" + "0" * 64])
def test_a_digest_that_is_none_leads_nowhere(store: Store, digest: str) -> None:
    with pytest.raises(CheckFailed, match="is not a digest"):
        s.blob_path(store, digest)


LISTED_BY_ANOTHER = """
import os, sys
from pathlib import Path
import qwenops.runtime.store as s
from qwenops.errors import NotAllowed
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    print(s.list_manifests(s.open_store(Path(sys.argv[1]), "test")))
except NotAllowed as error:
    print("not allowed:", error.message)
"""


@pytest.mark.skipif(os.name == "nt", reason="rights are kept otherwise on Windows")
def test_a_store_that_may_not_be_read_says_so(store: Store) -> None:
    make_model(store.path, SMOL)
    closed = store.path / "manifests"
    closed.chmod(0)
    try:
        command = [sys.executable, "-c", LISTED_BY_ANOTHER, str(store.path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    finally:
        closed.chmod(0o755)
    assert done.stdout == f"not allowed: {closed} cannot be read: Permission denied\n", done.stderr


@pytest.mark.parametrize(
    ("place", "environment", "home", "path"),
    [
        ("local", {"OLLAMA_MODELS": '"/data/models"'}, "/home/a", "/data/models"),
        ("local", {}, "/usr/share/ollama", "/usr/share/ollama/.ollama/models"),
        ("snap", {}, None, "/var/snap/ollama/common/models"),
    ],
)
def test_the_store_lies_where_the_server_would_have_it(
    place: Any, environment: dict[str, str], home: str | None, path: str
) -> None:
    found, _ = s.default_store_path(place, environment, home=Path(home) if home else None)
    assert found == Path(path)


def test_the_service_user_without_an_entry_keeps_ollamas_home() -> None:
    assert s.default_store_path("local", {}, user="ollama")[0].parts[-2:] == (".ollama", "models")


def tags_of(store: Store) -> list[TaggedModel]:
    return [TaggedModel(m.name.short, m.digest, m.size_bytes) for m in s.list_manifests(store).manifests]


def test_a_store_is_confirmed_by_the_same_names_with_the_same_digests(store: Store) -> None:
    make_model(store.path, SMOL)
    make_model(store.path, "hf.co/a/b/c", weights=b"other")
    assert s.confirm_store(store, tags_of(store))


@pytest.mark.parametrize("change", ["none listed", "other digest", "one more here", "one more there"])
def test_a_store_is_not_confirmed_by_less(store: Store, change: str) -> None:
    make_model(store.path, SMOL)
    tags = tags_of(store)
    if change == "none listed":
        tags = []
    elif change == "other digest":
        tags = [TaggedModel("smol:latest", "0" * 64, 1)]
    elif change == "one more here":
        make_model(store.path, "hf.co/a/b/c")
    else:
        tags.append(TaggedModel("x:latest", "0" * 64, 1))
    assert not s.confirm_store(store, tags)


@given(st.integers(0, 9000))
def test_the_digest_of_a_manifest_is_that_of_its_bytes_but_for_a_newline_at_a_full_buffer(length: int) -> None:
    body = json.dumps({"layers": [], "pad": "x" * length}).encode()
    digest = s.manifest_digest(body + b"\n")
    whole, bare = hashlib.sha256(body + b"\n").hexdigest(), hashlib.sha256(body).hexdigest()
    assert digest == (bare if len(body) in (512, 1536, 3584, 7680) else whole)


@pytest.mark.go
@pytest.mark.slow
def test_ollama_itself_lists_a_store_so(store: Store, oracle: Oracle) -> None:
    make_model(store.path, SMOL)
    make_model(store.path, "h:5000/n/M.x/T")
    make_model(store.path, "registry.ollama.ai/library/.x/latest")
    root = store.path / "manifests/registry.ollama.ai/library"
    for length in [*range(400, 560), *range(1480, 1560), 3550, 3560, *range(3570, 3590), *range(7660, 7690)]:
        for ending in ("", "\n", "\n\n", " tail"):
            path = root / f"m{length}" / f"t{len(ending)}"
            path.parent.mkdir(parents=True, exist_ok=True)
            bare = len('{"layers": [], "pad": ""}')
            path.write_text('{"layers": [], "pad": "' + "x" * (length - bare) + '"}' + ending)
    (root / "broken").mkdir()
    (root / "broken/latest").write_text("{")
    (answer,) = oracle.ask([{"op": "manifests", "env": {"OLLAMA_MODELS": str(store.path)}}])
    assert {str(m.name): f"{m.digest} {m.size_bytes}" for m in s.list_manifests(store).manifests} == answer["found"]


@pytest.mark.server
@pytest.mark.slow
def test_a_real_server_lists_what_the_reader_sees(ollama_server: OllamaServer, smollm: Path) -> None:
    store = s.open_store(ollama_server.store, "test")
    client = Client(ollama_server.url)
    client.create("reader-test", from_="", files={smollm.name: upload(client, smollm)}, parameters={"num_ctx": 2048})
    try:
        tags = client.tags()
        assert s.confirm_store(store, tags)
        manifest = s.read_manifest(store, "reader-test")
        tag = next(t for t in tags if t.name == "reader-test:latest")
        assert (manifest.digest, manifest.size_bytes) == (tag.digest, tag.size_bytes)
        # Ollama adds the stop words that it knows for the chat template.
        assert s.read_params(store, manifest)["num_ctx"] == 2048
        assert s.read_config(store, manifest)["model_family"] == "llama"
    finally:
        client.delete("reader-test")


def upload(client: Client, path: Path) -> str:
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    sent: list[int] = []
    assert not client.has_blob(digest)
    client.upload_blob(path, digest, on_bytes=sent.append)
    assert sent[-1] == path.stat().st_size
    assert client.has_blob(digest)
    return digest
