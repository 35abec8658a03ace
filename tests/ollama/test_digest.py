"""Hashing: right, remembered, not fooled by a change."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from qwenops.errors import BadInput
from qwenops.ollama.digest import Stamp, digest_file, remember, remembered, resolve


def test_the_digest_is_sha256_of_the_file_behind_the_link(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(os.urandom(5_000_001))
    (tmp_path / "snapshot").symlink_to(file)

    found = digest_file(tmp_path / "snapshot")

    assert found.path == file
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_file_that_did_not_move_is_read_once(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"x" * 10_000)
    read: list[str] = []
    watch = lambda what, done, total: read.append(what)  # noqa: E731

    first = digest_file(file, progress=watch)
    second = digest_file(file, progress=watch)

    assert first == second
    assert read == ["reading model.gguf"]


def test_a_file_that_was_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"one")
    first = digest_file(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(1, first.stamp.mtime_ns + 1))

    assert digest_file(file).sha256 == hashlib.sha256(b"two").hexdigest()


def test_progress_ends_at_the_size(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"x" * 9_000_000)
    seen: list[tuple[int, int]] = []

    digest_file(file, progress=lambda what, done, total: seen.append((done, total)))

    assert seen[-1] == (9_000_000, 9_000_000)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"x" * 10_000_000)
    sizes: list[int] = []

    def write_more(what: str, done: int, total: int) -> None:
        sizes.append(total)
        with file.open("ab") as more:
            more.write(b"y")

    with pytest.raises(BadInput, match="changed while it was read"):
        digest_file(file, progress=write_more)
    assert len(set(sizes)) == 2, "it is read a second time before it is refused"


def test_a_file_that_settles_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"x" * 10_000)
    once = iter([True])

    def write_once(what: str, done: int, total: int) -> None:
        if next(once, False):
            file.write_bytes(b"settled")

    assert digest_file(file, progress=write_once).sha256 == hashlib.sha256(b"settled").hexdigest()


def test_a_digest_that_a_download_worked_out_is_believed(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    remember(file, "ab" * 32)

    assert digest_file(file).sha256 == "ab" * 32
    assert digest_file(file, fresh=True).sha256 == hashlib.sha256(b"weights").hexdigest()


def test_a_broken_cache_costs_time_and_nothing_else(tmp_path: Path, qwenops_home: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    cache = qwenops_home / "cache"
    cache.mkdir(parents=True)
    (cache / "digests.db").write_bytes(b"this is no database" * 100)

    assert digest_file(file).sha256 == hashlib.sha256(b"weights").hexdigest()
    assert remembered(Stamp.of(file.stat())) is None


def test_two_threads_share_the_cache(tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.gguf" for n in range(8)]
    for n, file in enumerate(files):
        file.write_bytes(bytes([n]) * 100_000)
    threads = [threading.Thread(target=lambda f=file: digest_file(f)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    wanted = [hashlib.sha256(f.read_bytes()).hexdigest() for f in files]
    assert [remembered(Stamp.of(f.stat())) for f in files] == wanted


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda p: None, "does not exist", id="nothing there"),
        pytest.param(lambda p: p.mkdir(), "is not a file", id="a folder"),
        pytest.param(lambda p: p.symlink_to("nowhere"), "a link to a file that is not there", id="a dangling link"),
        pytest.param(lambda p: p.symlink_to(p), "cannot be opened", id="a link to itself"),
    ],
)
def test_what_cannot_be_hashed_says_why(tmp_path: Path, make: object, said: str) -> None:
    path = tmp_path / "model.gguf"
    make(path)  # type: ignore[operator]

    with pytest.raises(BadInput, match=said):
        resolve(path)


def test_hashing_keeps_up_with_the_library(tmp_path: Path) -> None:
    """Our loop must not cost more than half again what hashlib itself takes."""
    file = tmp_path / "model.gguf"
    file.write_bytes(bytes(64 << 20))
    data = file.read_bytes()
    started = time.perf_counter()
    hashlib.sha256(data).hexdigest()
    alone = time.perf_counter() - started
    started = time.perf_counter()
    digest_file(file)

    assert time.perf_counter() - started < 3 * alone + 0.5
