"""A blob that changed under its digest is found, one that did not is not accused."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from qwenops.ollama.link import can_reflink
from qwenops.ollama.models import list_models, show_model
from qwenops.ollama.register import register
from qwenops.ollama.types import FileHealth
from qwenops.runtime.types import Runtime
from tests.ollama.support import is_root, minimal_gguf, spec_for, store_alone


@pytest.fixture
def linked(tmp_path: Path) -> tuple[Runtime, Path]:
    """A store with one linked model, and the file it was linked from."""
    file = minimal_gguf(tmp_path / "models" / "model.gguf", extra=200_000)
    (tmp_path / "store").mkdir()
    if can_reflink(file, tmp_path / "store"):
        pytest.skip("this file system makes reflinks: an original cannot change its blob")
    runtime = store_alone(tmp_path / "store")
    register(spec_for(file), "model", runtime)
    return runtime, file


def seen(runtime: Runtime) -> FileHealth:
    """The health of the one file, the same by list and by show."""
    (listed,) = list_models(runtime)
    assert show_model(runtime, "model").listed == listed
    assert listed.state == listed.files[0].state
    return listed.files[0]


def test_an_untouched_file_is_ok_without_being_read(linked: tuple[Runtime, Path]) -> None:
    runtime, _ = linked
    read: list[str] = []

    (model,) = list_models(runtime, progress=lambda what, done, total: read.append(what))

    assert (model.state, read) == ("ok", [])


def test_an_original_overwritten_in_place_is_named(linked: tuple[Runtime, Path]) -> None:
    runtime, file = linked
    with file.open("r+b") as original:
        original.seek(150_000)
        original.write(b"other weights")

    health = seen(runtime)

    assert health.state == "changed"
    assert health.why == f"{file} was overwritten in place after it was linked: its content is another now"


def test_even_with_its_old_time_put_back(linked: tuple[Runtime, Path]) -> None:
    runtime, file = linked
    status = file.stat()
    with file.open("r+b") as original:
        original.seek(150_000)
        original.write(b"x")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert seen(runtime).state == "changed"


def test_a_truncated_original_is_named_without_reading_it(linked: tuple[Runtime, Path]) -> None:
    runtime, file = linked
    os.truncate(file, 1000)
    read: list[str] = []

    (model,) = list_models(runtime, progress=lambda what, done, total: read.append(what))

    assert (model.state, read) == ("changed", [])


def test_a_touched_file_is_read_once_and_then_ok(linked: tuple[Runtime, Path]) -> None:
    runtime, file = linked
    os.utime(file, (time.time() + 5, time.time() + 5))
    read: list[str] = []

    first = list_models(runtime, progress=lambda what, done, total: read.append(what))[0].state
    second = list_models(runtime, progress=lambda what, done, total: read.append(what))[0].state

    assert (first, second) == ("ok", "ok")
    assert len(read) == 1


def test_a_hidden_original_is_named_and_the_blob_still_right(linked: tuple[Runtime, Path]) -> None:
    runtime, file = linked
    file.rename(file.with_name("elsewhere.gguf"))

    health = seen(runtime)

    assert health.state == "hidden"
    assert health.why == f"the original {file} is not there any more; the store keeps what was linked"


def test_an_original_replaced_by_another_file_is_named(linked: tuple[Runtime, Path], tmp_path: Path) -> None:
    runtime, file = linked
    os.replace(minimal_gguf(tmp_path / "new.gguf", seed=9), file)

    health = seen(runtime)

    assert health.state == "hidden"
    assert "is another file now" in health.why


def test_a_blob_that_is_gone_is_missing_and_linked_again(linked: tuple[Runtime, Path]) -> None:
    runtime, file = linked
    blob = seen(runtime).blob
    assert blob is not None
    blob.unlink()

    assert seen(runtime).state == "missing"
    done = register(spec_for(file), "model", runtime)
    assert done.changed
    assert os.path.samefile(blob, file)
    assert seen(runtime).state == "ok"


def test_a_changed_blob_is_linked_anew_from_a_good_file(linked: tuple[Runtime, Path], tmp_path: Path) -> None:
    runtime, file = linked
    good = tmp_path / "good.gguf"
    good.write_bytes(file.read_bytes())
    with file.open("r+b") as original:
        original.seek(150_000)
        original.write(b"other weights")

    done = register(spec_for(good), "model", runtime)

    assert done.changed
    assert seen(runtime).state == "ok"
    assert seen(runtime).source == good


def test_a_copy_in_the_place_of_a_link_is_not_called_a_link(linked: tuple[Runtime, Path]) -> None:
    runtime, file = linked
    blob = seen(runtime).blob
    assert blob is not None
    copy = blob.with_name("copy")
    shutil.copyfile(blob, copy)
    os.replace(copy, blob)

    for _ in range(2):  # the second time nothing is read
        health = seen(runtime)
        assert (health.state, health.source, health.why) == ("ok", None, "")
    file.unlink()
    assert seen(runtime).state == "ok"


def test_what_was_copied_is_not_called_a_link(tmp_path: Path) -> None:
    file = minimal_gguf(tmp_path / "model.gguf")
    (tmp_path / "store").mkdir()
    runtime = store_alone(tmp_path / "store")
    register(spec_for(file), "model", runtime, copy=True)

    assert seen(runtime).source is None


@pytest.mark.skipif(not is_root(), reason="needs root, to know a user other than the file's owner")
def test_a_blob_that_the_servers_user_cannot_read_is_named(linked: tuple[Runtime, Path]) -> None:
    runtime, file = linked
    file.chmod(0o600)

    health = list_models(replace(runtime, user="nobody"))[0].files[0]

    assert health.state == "unreadable"
    assert health.why == f"nobody cannot read {file} (mode 600)"
