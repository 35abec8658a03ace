"""Disks that are full, small or another: nothing half done, and the user hears why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qwenops.errors import PartMissing
from qwenops.ollama.register import register
from tests.ollama.support import minimal_gguf, small_disk, snapshot, spec_for, store_alone

KIB = 1024


def test_a_store_on_another_file_system_gets_a_copy_and_says_so(tmp_path: Path) -> None:
    file = minimal_gguf(tmp_path / "model.gguf", extra=300 * KIB)
    with small_disk(tmp_path / "disk", 2048 * KIB) as disk:
        (disk / "store").mkdir()
        seen: list[tuple[int, int]] = []

        def watch(what: str, done: int, total: int) -> None:
            if what == "copying model.gguf":
                seen.append((done, total))

        done = register(spec_for(file), "far", store_alone(disk / "store"), progress=watch)

        assert (done.how, done.bytes_copied, done.bytes_linked) == ("copied", file.stat().st_size, 0)
        assert any("copied" in note for note in done.notes)
        assert seen[-1] == (file.stat().st_size, file.stat().st_size)


def test_a_copy_without_room_is_refused_before_it_begins(tmp_path: Path) -> None:
    file = minimal_gguf(tmp_path / "model.gguf", extra=900 * KIB)
    with small_disk(tmp_path / "disk", 512 * KIB) as disk:
        (disk / "store").mkdir()

        with pytest.raises(PartMissing, match="512 KiB free, and a copy of the model takes 900 KiB"):
            register(spec_for(file), "far", store_alone(disk / "store"))
        assert list((disk / "store").iterdir()) == []


@pytest.mark.parametrize("free_kib", [0, 4, 8, 12, 16, 20])
def test_a_disk_that_fills_up_on_the_way_leaves_nothing(tmp_path: Path, free_kib: int) -> None:
    """The model is on the same small disk, so it is linked; what fails is one of the small files or folders."""
    with small_disk(tmp_path / "disk", 512 * KIB) as disk:
        file = minimal_gguf(disk / "model.gguf", extra=64 * KIB)
        (disk / "store").mkdir()
        before = snapshot(disk)
        _fill(disk / "ballast", free_kib * KIB)
        spec = spec_for(file, system="s", template="{{ .Prompt }}", parameters={"num_ctx": 512}, license=("l",))

        with pytest.raises(PartMissing, match=r"is full .* nothing was changed"):
            register(spec, "full", store_alone(disk / "store"))

        (disk / "ballast").unlink()
        assert snapshot(disk) == before
        assert list((disk / "store").iterdir()) == []
        assert register(spec, "full", store_alone(disk / "store")).changed


@pytest.mark.parametrize("free_kib", [0, 4, 8, 16, 24])
def test_a_full_disk_under_our_own_lists_is_named_and_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_kib: int
) -> None:
    file = minimal_gguf(tmp_path / "model.gguf", extra=64 * KIB)
    (tmp_path / "store").mkdir()
    with small_disk(tmp_path / "disk", 256 * KIB) as disk:
        monkeypatch.setenv("QWENOPS_HOME", str(disk / "home"))
        _fill(disk / "ballast", free_kib * KIB)

        with pytest.raises(PartMissing, match=rf"{disk / 'home'}\S+ could not be written: ") as told:
            register(spec_for(file), "full", store_alone(tmp_path / "store"))

    assert told.value.do[0].startswith(f"df -h {disk}")
    assert "QWENOPS_HOME" in told.value.do[1]
    assert list((tmp_path / "store").iterdir()) == []


def _fill(path: Path, leave_bytes: int) -> None:
    status = os.statvfs(path.parent)
    path.write_bytes(b"x" * (status.f_bavail * status.f_frsize - leave_bytes))
