"""A ghost has the true header, the full length, next to no bytes on disk, and does not outlive its use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from qwenops.errors import BadInput, PartMissing
from qwenops.memory.ghost import LEFT_BEHIND_SECONDS, PREFIX, Ghost, make_ghost, sweep
from qwenops.model.gguf_header import read_header
from qwenops.model.read import read_model
from qwenops.model.types import Model
from tests.support.shapes import TEXT, VISION, write_text, write_vision

MIB = 1024**2


@pytest.fixture
def whole(tmp_path: Path) -> Model:
    """A model and its projector as full-length files."""
    path = write_text(tmp_path / "Qwen3-VL-2B-Q4_K_M.gguf", TEXT["qwen3-vl-2b"])
    mmproj = write_vision(tmp_path / "mmproj-F16.gguf", VISION["qwen3-vl-2b"])
    return read_model(path, mmproj=mmproj)


@pytest.fixture
def header_only(whole: Model, tmp_path: Path) -> Model:
    """The same model where only the first bytes of each file were fetched."""
    folder = tmp_path / "headers"
    folder.mkdir()
    assert whole.projector is not None
    path, mmproj = (_cut(p, folder) for p in (whole.path, whole.projector.path))
    return replace(whole, shards=(path,), projector=replace(whole.projector, path=mmproj))


def _cut(path: Path, folder: Path) -> Path:
    cut = folder / path.name
    cut.write_bytes(_first(path, read_header(path).data_offset))
    return cut


def _first(path: Path, n_bytes: int) -> bytes:
    with path.open("rb") as file:
        return file.read(n_bytes)


def _on_disk(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_a_model_that_lies_here_whole_stands_for_itself(whole: Model, tmp_path: Path) -> None:
    with make_ghost(whole, tmp_path) as ghost:
        assert whole.projector is not None
        assert ghost == Ghost(whole.path, whole.projector.path, sparse=False)
        assert not list(tmp_path.glob(f"{PREFIX}*"))


def test_a_header_becomes_a_file_of_full_length_that_takes_no_room(
    header_only: Model, whole: Model, tmp_path: Path
) -> None:
    with make_ghost(header_only, tmp_path / "ghosts") as ghost:
        assert ghost.sparse
        assert ghost.projector is not None
        assert whole.projector is not None
        for made, true in ((ghost.model, whole.path), (ghost.projector, whole.projector.path)):
            offset = read_header(true).data_offset
            assert made.stat().st_size == true.stat().st_size
            assert _first(made, offset) == _first(true, offset)
            assert _on_disk(made) < MIB
            assert read_header(made).tensors == read_header(true).tensors
    assert list((tmp_path / "ghosts").iterdir()) == []


def test_shards_keep_their_names_and_lie_together(whole: Model, tmp_path: Path) -> None:
    folder = tmp_path / "headers"
    folder.mkdir()
    names = [f"Big-Q4_K_M-0000{n}-of-00002.gguf" for n in (1, 2)]
    shards = []
    for name in names:
        full = tmp_path / name
        full.hardlink_to(whole.path)
        shards.append(_cut(full, folder))
    with make_ghost(replace(whole, shards=tuple(shards), projector=None), tmp_path) as ghost:
        assert ghost.model.name == names[0]
        assert sorted(p.name for p in ghost.model.parent.iterdir()) == names
        assert ghost.projector is None


@pytest.mark.parametrize("end", [KeyboardInterrupt, ValueError, SystemExit])
def test_nothing_is_left_however_the_use_ends(header_only: Model, tmp_path: Path, end: type[BaseException]) -> None:
    with pytest.raises(end), make_ghost(header_only, tmp_path / "ghosts"):
        raise end
    assert list((tmp_path / "ghosts").iterdir()) == []


def test_leftovers_of_a_killed_run_are_swept_and_those_of_a_living_one_stay(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    gone = tmp_path / f"{PREFIX}{child.pid}-a"
    living = tmp_path / f"{PREFIX}{os.getpid()}-b"
    old = tmp_path / f"{PREFIX}{os.getpid()}-c"
    other = tmp_path / "somebody-else"
    for folder in (gone, living, old, other):
        (folder / "model").mkdir(parents=True)
    long_ago = time.time() - LEFT_BEHIND_SECONDS - 60
    os.utime(old, (long_ago, long_ago))
    sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {living.name, other.name}


def test_a_killed_run_is_cleaned_up_by_the_next(header_only: Model, tmp_path: Path) -> None:
    ghosts = tmp_path / "ghosts"
    code = f"""
        import sys
        from pathlib import Path
        from tests.memory.test_ghost import model_at
        from qwenops.memory.ghost import make_ghost
        with make_ghost(model_at(Path({str(header_only.path)!r})), Path({str(ghosts)!r})):
            print("made", flush=True)
            sys.stdin.read()
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "made\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert len(list(ghosts.iterdir())) == 1
    with make_ghost(header_only, ghosts):
        assert len(list(ghosts.iterdir())) == 1
    assert list(ghosts.iterdir()) == []


def test_a_folder_that_cannot_hold_the_length_is_refused_and_left_clean(header_only: Model, tmp_path: Path) -> None:
    ghosts = tmp_path / "ghosts"
    code = f"""
        import resource, signal
        from pathlib import Path
        from tests.memory.test_ghost import model_at
        from qwenops.errors import PartMissing
        from qwenops.memory.ghost import make_ghost
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024**2, 64 * 1024**2))
        try:
            with make_ghost(model_at(Path({str(header_only.path)!r})), Path({str(ghosts)!r})):
                print("made")
        except PartMissing as e:
            print(e.message)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert "cannot be made" in done.stdout, done.stderr
    assert "GiB" in done.stdout
    assert list(ghosts.iterdir()) == []


def test_a_file_that_ends_inside_its_header_is_named(header_only: Model, tmp_path: Path) -> None:
    header_only.path.write_bytes(header_only.path.read_bytes()[:400])
    with pytest.raises(BadInput, match=r"ends inside its header, at byte 400"):
        make_ghost(header_only, tmp_path).__enter__()


def test_a_folder_that_cannot_be_made_is_named(header_only: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PartMissing, match="no folder can be made"):
        make_ghost(header_only, tmp_path / "file" / "ghosts").__enter__()


def model_at(path: Path) -> Model:
    """A header-only model, for the child processes of these tests."""
    from qwenops.model.gguf_header import parse_header

    header = parse_header(path.read_bytes(), 1 << 40, path)
    return Model("m", header.architecture, header, (path,), "Q4_K_M", 0, 1 << 40)
