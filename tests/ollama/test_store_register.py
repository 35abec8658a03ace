"""Registration into a store without a server: what is written, what is refused, what is taken back."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from qwenops.errors import BadInput, NotAGGUF, NotAllowed, ServerDown
from qwenops.ollama import store_register
from qwenops.ollama.link import can_reflink
from qwenops.ollama.models import list_models, show_model
from qwenops.ollama.register import register
from qwenops.ollama.remove import remove_model
from qwenops.ollama.types import Spec
from tests.ollama.support import manifest_of, minimal_gguf, snapshot, spec_for, store_alone


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return minimal_gguf(tmp_path / "models" / "model.gguf", extra=100_000)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def test_the_blob_shares_the_file_and_nothing_is_copied(file: Path, store: Path) -> None:
    done = register(spec_for(file, parameters={"num_ctx": 512}), "small", store_alone(store))

    blob = store / "blobs" / manifest_of(store, "small")["layers"][0]["digest"].replace(":", "-")  # type: ignore[index]
    assert done.how in ("linked", "reflinked")
    assert (done.bytes_copied, done.bytes_linked) == (0, file.stat().st_size)
    assert done.how != "linked" or os.path.samefile(blob, file)
    assert blob.read_bytes() == file.read_bytes()
    assert not done.confirmed
    assert "no server answers" in done.notes[0]


def test_a_link_of_hugging_faces_cache_is_followed(file: Path, store: Path, tmp_path: Path) -> None:
    snapshot_path = tmp_path / "snapshots" / "model.gguf"
    snapshot_path.parent.mkdir()
    snapshot_path.symlink_to(os.path.relpath(file, snapshot_path.parent))

    register(spec_for(snapshot_path), "cached", store_alone(store))

    layer = manifest_of(store, "cached")["layers"][0]  # type: ignore[index]
    blob = store / "blobs" / layer["digest"].replace(":", "-")
    assert not blob.is_symlink()
    assert blob.read_bytes() == file.read_bytes()
    assert layer["from"] == "model.gguf"


def test_copy_gives_an_inode_of_its_own(file: Path, store: Path) -> None:
    done = register(spec_for(file), "own", store_alone(store), copy=True)

    (health,) = list_models(store_alone(store))[0].files
    assert done.how == "copied"
    assert done.bytes_copied == file.stat().st_size
    assert health.blob is not None
    assert not os.path.samefile(health.blob, file)
    assert health.blob.stat().st_mode & 0o777 == 0o644


def test_copy_takes_the_place_of_a_link(file: Path, store: Path) -> None:
    register(spec_for(file), "own", store_alone(store))
    done = register(spec_for(file), "own", store_alone(store), copy=True)

    (health,) = list_models(store_alone(store))[0].files
    assert (done.changed, done.how) == (True, "copied")
    assert health.blob is not None
    assert not os.path.samefile(health.blob, file)
    assert not register(spec_for(file), "own", store_alone(store), copy=True).changed


def test_copy_leaves_a_link_that_another_model_uses(file: Path, store: Path) -> None:
    if can_reflink(file, store):
        pytest.skip("this file system makes reflinks: no blob is the user's own file")
    runtime = store_alone(store)
    register(spec_for(file), "first", runtime)

    done = register(spec_for(file, system="s"), "second", runtime, copy=True)

    blob = list_models(runtime)[0].files[0].blob
    assert blob is not None
    assert os.path.samefile(blob, file)
    assert file.stat().st_nlink == 2
    assert done.bytes_copied == 0
    note = f"{file.name} was not copied: the store has it by a link already, and first:latest uses it"
    assert note in done.notes
    assert [m.files[0].source for m in list_models(runtime)] == [file, file]


def test_the_same_weights_from_another_file_leave_the_first_one_as_the_linked_one(
    file: Path, store: Path, tmp_path: Path
) -> None:
    runtime = store_alone(store)
    register(spec_for(file), "first", runtime)
    other = tmp_path / "other.gguf"
    other.write_bytes(file.read_bytes())

    register(spec_for(other, system="s"), "second", runtime)

    assert [(m.state, m.files[0].source) for m in list_models(runtime)] == [("ok", file), ("ok", file)]


def test_a_dry_run_writes_nothing(file: Path, store: Path) -> None:
    done = register(spec_for(file), "dry", store_alone(store), dry_run=True)

    assert done.changed
    assert done.bytes_linked == file.stat().st_size
    assert snapshot(store) == {}
    assert list(store.iterdir()) == []


def test_the_name_keeps_the_spelling_that_the_store_has(file: Path, store: Path) -> None:
    register(spec_for(file), "Small", store_alone(store))
    again = register(spec_for(file), "SMALL:Latest", store_alone(store))

    assert again.name == "Small:latest"
    assert not again.changed
    assert [m.name for m in list_models(store_alone(store))] == ["Small:latest"]


def test_our_own_model_is_replaced_and_its_old_blobs_go(file: Path, store: Path, tmp_path: Path) -> None:
    runtime = store_alone(store)
    register(spec_for(file, parameters={"num_ctx": 512}), "mine", runtime)
    other = minimal_gguf(tmp_path / "models" / "other.gguf", seed=2)

    done = register(spec_for(other, parameters={"num_ctx": 1024}), "mine", runtime)

    assert done.changed
    assert show_model(runtime, "mine").parameters == {"num_ctx": 1024}
    named = {layer["digest"] for layer in manifest_of(store, "mine")["layers"]}  # type: ignore[attr-defined]
    named.add(manifest_of(store, "mine")["config"]["digest"])  # type: ignore[index]
    assert {f"sha256:{p.name.removeprefix('sha256-')}" for p in (store / "blobs").iterdir()} == named
    assert file.exists()


def test_a_model_of_someone_else_is_not_overwritten(file: Path, store: Path) -> None:
    runtime = store_alone(store)
    register(spec_for(file), "theirs", runtime)
    path = store / "manifests" / "registry.ollama.ai" / "library" / "theirs" / "latest"
    changed = json.loads(path.read_text())
    changed["layers"] = changed["layers"][:0]
    path.write_text(json.dumps(changed))
    before = snapshot(store)

    with pytest.raises(BadInput, match="was changed since qwenops made it") as refused:
        register(spec_for(file, system="other"), "theirs", runtime)

    assert any("--replace" in line for line in refused.value.do)
    assert snapshot(store) == before
    assert register(spec_for(file, system="other"), "theirs", runtime, replace=True).changed


def test_blobs_that_another_model_uses_stay(file: Path, store: Path) -> None:
    runtime = store_alone(store)
    register(spec_for(file, system="one"), "one", runtime)
    register(spec_for(file, system="two"), "two", runtime)

    gone = remove_model(runtime, "one")

    assert gone.by == "store"
    assert gone.blobs_kept == 1
    assert [m.name for m in list_models(runtime)] == ["two:latest"]
    assert list_models(runtime)[0].state == "ok"
    assert not (store / "manifests" / "registry.ollama.ai" / "library" / "one").exists()
    remove_model(runtime, "two")
    assert snapshot(store) == {}
    assert file.read_bytes()[:4] == b"GGUF"


def test_removing_what_is_not_there_says_so(store: Path) -> None:
    with pytest.raises(BadInput, match="no model nothing:latest"):
        remove_model(store_alone(store), "nothing")


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        pytest.param(b"not a model at all", NotAGGUF, "model.gguf", id="no GGUF"),
        pytest.param(b"GGUF\x03\0\0\0", NotAGGUF, "model.gguf", id="cut off"),
        pytest.param(b"", NotAGGUF, "model.gguf", id="empty"),
    ],
)
def test_what_is_no_model_is_refused_before_anything_is_written(
    tmp_path: Path, store: Path, content: bytes, error: type[Exception], said: str
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)

    with pytest.raises(error, match=said):
        register(spec_for(path), "bad", store_alone(store))
    assert list(store.iterdir()) == []


@pytest.mark.parametrize("name", ["", "a b", "-x", "x:y:z", "a/b/c/d", "ünïcode", "x" * 81, "ok:", "../../etc"])
def test_a_name_that_ollama_refuses_is_refused(file: Path, store: Path, name: str) -> None:
    with pytest.raises(BadInput):
        register(spec_for(file), name, store_alone(store))
    assert list(store.iterdir()) == []


def test_a_projector_beside_itself_is_refused(tmp_path: Path, store: Path, file: Path) -> None:
    projector = minimal_gguf(tmp_path / "mmproj.gguf", architecture="clip")

    with pytest.raises(BadInput, match="is a projector"):
        register(spec_for(projector), "blind", store_alone(store))
    with pytest.raises(BadInput, match="not a projector"):
        register(Spec(shards=(file,), projectors=(file,)), "blind", store_alone(store))
    with pytest.raises(BadInput, match="does not name its projector type"):
        register(Spec(shards=(file,), projectors=(projector,)), "blind", store_alone(store))


def test_without_a_server_or_a_store_the_server_is_asked_for(file: Path) -> None:
    from qwenops.runtime.types import Runtime

    with pytest.raises(ServerDown, match="no store was found"):
        register(spec_for(file), "x", Runtime(place="none", url="http://127.0.0.1:9"))
    with pytest.raises(ServerDown):
        register(spec_for(file), "x", Runtime(place="none", url="http://127.0.0.1:9"), via="api")


def test_ctrl_c_at_any_step_leaves_the_store_as_it_was(file: Path, store: Path, tmp_path: Path) -> None:
    """A progress callback that raises is a Ctrl-C in the middle of the work."""
    other = minimal_gguf(tmp_path / "models" / "other.gguf", seed=3)
    register(spec_for(other), "standing", store_alone(store))
    before = snapshot(store)

    def stop(what: str, done: int, total: int) -> None:
        if what.startswith("copying"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        register(spec_for(file), "new", store_alone(store), copy=True, progress=stop)
    assert snapshot(store) == before
    assert not (store / "manifests" / "registry.ollama.ai" / "library" / "new").exists()


def test_two_registrations_at_the_same_time_both_stand(store: Path, tmp_path: Path) -> None:
    runtime = store_alone(store)
    files = [minimal_gguf(tmp_path / "models" / f"{n}.gguf", extra=500_000, seed=n) for n in range(6)]
    failed: list[BaseException] = []

    def go(number: int) -> None:
        try:
            register(spec_for(files[number], system="the same"), f"m{number}", runtime)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=go, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert [m.name for m in list_models(runtime)] == [f"m{n}:latest" for n in range(6)]
    assert {m.state for m in list_models(runtime)} == {"ok"}


def test_the_same_registration_twice_at_once_changes_once(file: Path, store: Path) -> None:
    runtime = store_alone(store)
    done: list[bool] = []
    threads = [
        threading.Thread(target=lambda: done.append(register(spec_for(file), "same", runtime).changed))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(done) == [False, False, False, True]


def test_a_store_that_cannot_be_written_is_not_touched(file: Path, store: Path) -> None:
    from dataclasses import replace

    runtime = store_alone(store)
    assert runtime.store is not None
    closed = replace(runtime, store=replace(runtime.store, writable=False))

    with pytest.raises(NotAllowed, match="can be written by") as refused:
        register(spec_for(file), "x", closed)

    said = "\n".join(refused.value.do)
    assert "sudo sh " in said
    assert "--via api" in said
    assert list(store.iterdir()) == []


def test_the_rows_of_a_manifest_are_in_the_order_of_ollama_create(file: Path) -> None:
    from qwenops.ollama.contents import bundle, open_contents
    from qwenops.ollama.digest import digest_file

    spec = spec_for(file, template="{{ .Prompt }}", system="s", license=("l",), parameters={"seed": 1})
    contents = open_contents(spec)
    made = bundle(contents, [digest_file(path) for _, path in contents.files])

    kinds = [row["mediaType"].rsplit(".", 1)[1] for row in json.loads(made.manifest)["layers"]]
    assert kinds == ["model", "template", "system", "license", "params"]
    assert store_register.same_model(made.manifest, made.manifest)
