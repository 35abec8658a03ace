"""Reflinks on a real btrfs: own inode, owner and mode, shared blocks, and an original that may change as it likes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from qwenops.ollama.link import can_reflink
from qwenops.ollama.models import list_models
from qwenops.ollama.register import register
from tests.ollama.support import is_root, minimal_gguf, reflink_disk, snapshot, spec_for, store_alone


def _used(disk: Path) -> int:
    os.sync()
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def test_a_reflink_shares_the_blocks_and_nothing_else(tmp_path: Path) -> None:
    with reflink_disk(tmp_path / "disk") as disk:
        file = minimal_gguf(disk / "model.gguf", extra=30 << 20)
        file.chmod(0o600)
        (disk / "store").mkdir()
        before = _used(disk)
        runtime = replace(store_alone(disk / "store"), user="nobody" if is_root() else None)

        assert register(spec_for(file), "shared", runtime, dry_run=True).how == "reflinked"
        assert snapshot(disk / "store") == {}
        done = register(spec_for(file), "shared", runtime)

        (health,) = list_models(runtime)[0].files
        assert health.blob is not None
        assert (done.how, done.bytes_copied) == ("reflinked", 0)
        assert not os.path.samefile(health.blob, file)
        assert health.blob.stat().st_mode & 0o777 == 0o644
        assert file.stat().st_mode & 0o777 == 0o600
        assert _used(disk) - before < 2 << 20

        content = health.blob.read_bytes()
        with file.open("r+b") as original:
            original.seek(1 << 20)
            original.write(b"other weights")
        assert health.blob.read_bytes() == content
        assert list_models(runtime)[0].state == "ok", "an original that changes does not change the blob"
        file.unlink()
        assert list_models(runtime)[0].state == "ok"


def test_a_blob_that_is_written_to_is_found(tmp_path: Path) -> None:
    with reflink_disk(tmp_path / "disk") as disk:
        file = minimal_gguf(disk / "model.gguf", extra=1 << 20)
        (disk / "store").mkdir()
        register(spec_for(file), "shared", store_alone(disk / "store"))
        (health,) = list_models(store_alone(disk / "store"))[0].files
        assert health.blob is not None
        with health.blob.open("r+b") as blob:
            blob.seek(500_000)
            blob.write(b"x")

        (health,) = list_models(store_alone(disk / "store"))[0].files
        assert health.state == "changed"
        assert health.why.startswith(f"the blob of {file} was written to")


def test_trying_for_a_reflink_leaves_no_trace(tmp_path: Path) -> None:
    file = minimal_gguf(tmp_path / "model.gguf")
    folder = tmp_path / "folder"
    folder.mkdir()

    can_reflink(file, folder)

    assert list(folder.iterdir()) == []
    assert not can_reflink(tmp_path / "model.gguf", Path("/proc"))


@pytest.mark.parametrize("extra", [0, 3, 4095, 4097])
def test_a_file_that_ends_within_a_block_is_cloned_whole(tmp_path: Path, extra: int) -> None:
    with reflink_disk(tmp_path / "disk") as disk:
        file = minimal_gguf(disk / "model.gguf", extra=1 << 20)
        with file.open("ab") as more:
            more.write(b"z" * extra)
        (disk / "store").mkdir()

        register(spec_for(file), "odd", store_alone(disk / "store"))

        (health,) = list_models(store_alone(disk / "store"))[0].files
        assert health.blob is not None
        assert health.blob.read_bytes() == file.read_bytes()
