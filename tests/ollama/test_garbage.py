"""gc never takes a blob that a manifest names nor one that it did not place, and leaves a store in motion alone."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenops.errors import CheckFailed, NotAllowed
from qwenops.ollama import ledger
from qwenops.ollama.digest import Stamp
from qwenops.ollama.garbage import garbage_in
from qwenops.ollama.references import referenced
from qwenops.ollama.register import register
from qwenops.waste import freed_bytes
from tests.ollama.support import as_user as done_as
from tests.ollama.support import is_root, minimal_gguf, second_user, spec_for, store_alone

LIBRARY = "registry.ollama.ai/library"
HOUR = 3600


class StoreOf:
    """A store on the disk with files put there by hand: by qwenops (noted in the ledger) or by someone else."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "store"
        self.blobs = self.path / "blobs"
        self.blobs.mkdir(parents=True)
        (self.path / "manifests").mkdir()
        self.originals = folder / "originals"
        self.originals.mkdir()

    def blob(self, content: str, *, ours: bool) -> str:
        """A blob that is a link to a file elsewhere; returns its SHA-256."""
        data = content.encode() * 4096
        digest = hashlib.sha256(data).hexdigest()
        original, blob = self.originals / digest, self.blobs / f"sha256-{digest}"
        original.write_bytes(data)
        os.link(original, blob)
        if ours:
            ledger.record_link(self.path, ledger.Link(digest, "linked", original, Stamp.of(blob.stat())))
        return digest

    def manifest(self, name: str, *digests: str, prefix: str = "sha256:") -> Path:
        """A manifest of some blobs below manifests/."""
        path = self.path / "manifests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        layers = [{"mediaType": "application/vnd.ollama.image.model", "digest": prefix + d, "size": 1} for d in digests]
        path.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
        return path

    def has(self, digest: str) -> bool:
        return (self.blobs / f"sha256-{digest}").exists()

    def collect(self) -> list[str]:
        """Take everything that may go; returns why things stayed."""
        return [stayed for thing in garbage_in(self.path) if (stayed := thing.take())]


@pytest.fixture
def store(tmp_path: Path) -> StoreOf:
    return StoreOf(tmp_path)


def aged(path: Path, seconds: float) -> Path:
    """A file that was written so long ago."""
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_a_link_that_no_manifest_names_goes_and_its_original_stays(store: StoreOf) -> None:
    digest = store.blob("weights", ours=True)
    things = garbage_in(store.path)
    assert [(thing.kind, thing.path.name) for thing in things] == [("link", f"sha256-{digest}")]
    assert str(store.originals / digest) in things[0].why
    assert freed_bytes(things) == (0,), "the original keeps the data"
    assert things[0].take() == ""
    assert not store.has(digest)
    assert (store.originals / digest).exists()
    assert ledger.link_of(store.path, digest) is None


def test_the_last_name_of_a_file_frees_its_blocks(store: StoreOf) -> None:
    digest = store.blob("weights", ours=True)
    (store.originals / digest).unlink()
    things = garbage_in(store.path)
    assert freed_bytes(things)[0] >= things[0].size_bytes


@pytest.mark.parametrize(
    "name",
    [
        f"{LIBRARY}/model/latest",
        "hf.co/someone/model/Q4_K_M",
        "localhost:5000/a/b/c",
        f"{LIBRARY}/.hidden/latest",
        "too/shallow",
        "far/too/deep/to/be/a/model",
        "latest",
    ],
)
@pytest.mark.parametrize("prefix", ["sha256:", "sha256-"])
def test_what_any_manifest_names_stays(store: StoreOf, name: str, prefix: str) -> None:
    digest = store.blob("weights", ours=True)
    store.manifest(name, digest, prefix=prefix)
    assert garbage_in(store.path) == ()


def test_a_digest_that_is_written_in_another_way_counts(store: StoreOf) -> None:
    one, two, three = (store.blob(f"w{i}", ours=True) for i in range(3))
    store.manifest(f"{LIBRARY}/upper/latest", one.upper())
    odd = store.manifest(f"{LIBRARY}/odd/latest")
    odd.write_text(json.dumps({"config": {"digest": f"sha256:{two}"}, "later": {"x": [{"digest": f"sha256:{three}"}]}}))
    odd.write_text(odd.read_text().replace("sha256", r"\u0073ha256"))
    assert garbage_in(store.path) == ()


def test_what_qwenops_did_not_place_stays(store: StoreOf) -> None:
    digest = store.blob("someone else's", ours=False)
    assert garbage_in(store.path) == ()
    assert store.has(digest)


def test_a_blob_that_ollama_brought_anew_under_the_name_of_our_link_stays(store: StoreOf) -> None:
    digest = store.blob("weights", ours=True)
    blob = store.blobs / f"sha256-{digest}"
    data = blob.read_bytes()
    (things,) = [garbage_in(store.path)]
    blob.unlink()
    blob.write_bytes(data)
    assert garbage_in(store.path) == ()
    assert "not the file any more" in things[0].take()
    assert store.has(digest)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"text"', "not json"])
def test_one_file_that_is_no_manifest_stops_everything(store: StoreOf, content: str) -> None:
    digest = store.blob("weights", ours=True)
    things = garbage_in(store.path)
    bad = store.manifest("host/name/model/tag")
    bad.write_text(content)
    with pytest.raises(CheckFailed, match="host/name/model/tag is not a manifest"):
        garbage_in(store.path)
    assert "is not a manifest" in things[0].take()
    assert store.has(digest)


def test_a_manifest_that_leads_nowhere_and_a_pipe_stop_everything(store: StoreOf) -> None:
    store.blob("weights", ours=True)
    place = store.path / "manifests" / "gone"
    place.symlink_to(store.path / "elsewhere")
    with pytest.raises(NotAllowed, match="gone cannot be read"):
        garbage_in(store.path)
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(CheckFailed, match="is not a manifest"):
        garbage_in(store.path)


def test_folders_of_manifests_that_are_links_are_read_once(store: StoreOf, tmp_path: Path) -> None:
    digest = store.blob("weights", ours=True)
    elsewhere = StoreOf(tmp_path / "other")
    elsewhere.manifest(f"{LIBRARY}/model/latest", digest)
    (store.path / "manifests" / "linked").symlink_to(elsewhere.path / "manifests")
    (elsewhere.path / "manifests" / "round").symlink_to(store.path / "manifests")
    assert referenced(store.path) == {digest}


def test_blobs_that_lie_in_another_store_are_left_alone(store: StoreOf, tmp_path: Path) -> None:
    other = StoreOf(tmp_path / "other")
    store.blobs.rmdir()
    store.blobs.symlink_to(other.blobs)
    with pytest.raises(CheckFailed, match="leads to another folder"):
        garbage_in(store.path)


@pytest.mark.parametrize("name", [f"sha256-{'a' * 64}-partial", f"sha256-{'a' * 64}-partial-3", "sha256-7", "fp163"])
def test_a_pull_or_create_that_goes_on_stops_everything(store: StoreOf, name: str) -> None:
    digest = store.blob("weights", ours=True)
    things = garbage_in(store.path)
    (store.blobs / name).write_text("half")
    with pytest.raises(CheckFailed, match="on its way into"):
        garbage_in(store.path)
    assert "on its way into" in things[0].take()
    assert store.has(digest)


def test_a_registration_that_goes_on_stops_everything(store: StoreOf) -> None:
    digest = store.blob("weights", ours=True)
    things = garbage_in(store.path)
    descriptor = os.open(store.blobs, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(CheckFailed, match="registering or removing"):
            garbage_in(store.path)
        assert "registering or removing" in things[0].take()
    finally:
        os.close(descriptor)
    assert store.has(digest)
    assert things[0].take() == ""


def test_a_manifest_that_appears_after_the_listing_keeps_its_blob(store: StoreOf) -> None:
    kept, gone = store.blob("kept", ours=True), store.blob("gone", ours=True)
    things = {thing.path.name: thing for thing in garbage_in(store.path)}
    store.manifest("hf.co/a/b/c", kept)
    assert things[f"sha256-{kept}"].take() == "a model names it by now"
    assert things[f"sha256-{gone}"].take() == ""
    assert (store.has(kept), store.has(gone)) == (True, False)
    assert ledger.link_of(store.path, kept) is not None


@contextmanager
def holding(path: Path, *, mapped: bool) -> Iterator[None]:
    """Another process that has a file open, or mapped and closed, while the block lasts."""
    code = "import mmap, sys; f = open(sys.argv[1], 'rb'); "
    if mapped:
        code += "m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ); f.close(); "
    code += "print('ready', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="by /proc")
@pytest.mark.parametrize("mapped", [False, True], ids=["open", "mapped"])
def test_a_blob_that_a_process_has_open_stays(store: StoreOf, mapped: bool) -> None:
    digest = store.blob("weights", ours=True)
    things = garbage_in(store.path)
    with holding(store.blobs / f"sha256-{digest}", mapped=mapped):
        assert "has it open" in things[0].take()
        assert store.has(digest)
    assert things[0].take() == ""


@pytest.mark.parametrize("place", [f"blobs/sha256-{'b' * 64}.qwenops-0123abcd", "manifests/.qwenops-new"])
def test_what_a_killed_registration_left_half_written_goes_after_an_hour(store: StoreOf, place: str) -> None:
    half = store.path / place
    half.write_text("half")
    assert garbage_in(store.path) == ()
    aged(half, 2 * HOUR)
    assert [(thing.kind, thing.take()) for thing in garbage_in(store.path)] == [("half-written", "")]
    assert not half.exists()


def test_parts_that_a_pull_left_behind_long_ago_hold_nothing_up(store: StoreOf) -> None:
    digest = store.blob("weights", ours=True)
    part = store.blobs / f"sha256-{'a' * 64}-partial"
    part.write_text("half")
    aged(part, 2 * HOUR)
    if sys.platform == "linux":
        with holding(part, mapped=False), pytest.raises(CheckFailed, match="has it open"):
            garbage_in(store.path)
    assert store.collect() == []
    assert not store.has(digest)
    assert part.exists(), "Ollama's own"


def test_a_registration_that_was_killed_leaves_nothing_that_gc_does_not_find(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    file = minimal_gguf(tmp_path / "model.gguf")
    done = register(spec_for(file), "model", store_alone(folder))
    assert done.manifest
    done.manifest.unlink()  # as where the process is killed before the manifest
    (thing,) = garbage_in(folder)
    assert thing.take() == ""
    assert file.exists()


@pytest.mark.skipif(not is_root(), reason="needs root and a second user")
def test_a_store_that_cannot_be_read_or_written_is_explained() -> None:
    with second_user() as user:
        store = StoreOf(user.folder)
        digest = store.blob("weights", ours=False)
        blob = store.blobs / f"sha256-{digest}"
        link = ledger.Link(digest, "linked", blob, Stamp.of(blob.stat()))

        def look() -> str:
            with tempfile.TemporaryDirectory() as home:
                os.environ["QWENOPS_HOME"] = home
                ledger.record_link(store.path, link)
                return str(garbage_in(store.path))

        assert "cannot be written, and 1 of its files could go" in done_as(user, look)
        store.blobs.chmod(0o700)
        assert "blobs cannot be read: Permission denied" in done_as(user, look)
        (store.path / "manifests").chmod(0o700)
        store.blobs.chmod(0o755)
        assert "manifests cannot be read: Permission denied" in done_as(user, look)
        assert store.has(digest)


# name of a manifest -> which of six blobs it names; and which blobs qwenops placed
_NAMES = st.sampled_from([f"{LIBRARY}/a/latest", f"{LIBRARY}/b/q4", "hf.co/x/y/z", "odd", "very/deep/a/b/c/d"])
_MANIFESTS = st.dictionaries(_NAMES, st.sets(st.integers(0, 5)), max_size=4)


@settings(max_examples=60, deadline=None)
@given(before=_MANIFESTS, between=_MANIFESTS, ours=st.sets(st.integers(0, 5)), broken=st.booleans())
def test_law_nothing_that_is_named_and_nothing_foreign_ever_goes(
    before: dict[str, set[int]], between: dict[str, set[int]], ours: set[int], broken: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = StoreOf(Path(folder))
        digests = [store.blob(f"blob {i}", ours=i in ours) for i in range(6)]
        for name, named in before.items():
            store.manifest(name, *(digests[i] for i in named))
        things = garbage_in(store.path)
        for name, named in between.items():
            store.manifest(f"later/{name}", *(digests[i] for i in named))
        if broken:
            store.manifest("broken/one").write_text("{")
        for thing in things:
            thing.take()
        named_now = set().union(*before.values(), *between.values())
        unneeded = ours - named_now if not broken else set()
        assert {i for i in range(6) if not store.has(digests[i])} == unneeded
