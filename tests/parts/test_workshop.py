"""Making parts: once, whole or not at all, by one run at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.parts import recipes
from scripts.parts.layout import Layout, default_root
from scripts.parts.recipes import PARTS
from scripts.parts.workshop import PartFailed, Workshop, cpu_features, put_in_place

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(Layout(tmp_path / "parts"))


def _until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _pytest(folder: Path, ci: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "QWENOPS_PARTS": str(folder), "CI": ci}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=CHECKOUT, env=env, capture_output=True, text=True, timeout=120)


def test_a_test_whose_part_is_missing_is_skipped_by_name_and_fails_in_ci(tmp_path: Path) -> None:
    wanted = "tests/parts/test_real_parts.py::test_the_reference_tools_run"
    at_home, in_ci = _pytest(tmp_path, "", wanted), _pytest(tmp_path, "true", wanted)
    assert (at_home.returncode, in_ci.returncode) == (0, 1)
    assert f"no ollama in {tmp_path}" in at_home.stdout
    assert "1 skipped" in at_home.stdout
    assert f"CI=true allows none to be: no ollama in {tmp_path}" in in_ci.stdout


@pytest.mark.parametrize(
    ("recorded", "asked", "native", "done"),
    [
        pytest.param("1.0", "1.0", False, True, id="the same version"),
        pytest.param("1.0", "1.1", False, False, id="another version"),
        pytest.param("1.0", "1.0", True, True, id="native, made on this processor"),
    ],
)
def test_a_stamp_counts_for_what_it_names(
    workshop: Workshop, recorded: str, asked: str, native: bool, done: bool
) -> None:
    workshop.stamp("part", recorded, native=native)
    assert workshop.is_stamped("part", asked, native=native, products=[]) is done


def test_what_was_compiled_for_another_processor_is_made_again(workshop: Workshop) -> None:
    workshop.stamp("part", "1.0", native=True)
    file = workshop.layout.stamps / "part.json"
    file.write_text(json.dumps({"key": "1.0", "cpu": [*sorted(cpu_features()), "a-feature-of-2040"]}))
    assert not workshop.is_stamped("part", "1.0", native=True, products=[])
    assert workshop.is_stamped("part", "1.0", native=False, products=[])


def test_a_stamp_whose_file_is_gone_does_not_count(workshop: Workshop, tmp_path: Path) -> None:
    product = tmp_path / "product"
    product.touch()
    workshop.stamp("part", "1.0", native=False)
    assert workshop.is_stamped("part", "1.0", native=False, products=[product])
    product.unlink()
    assert not workshop.is_stamped("part", "1.0", native=False, products=[product])


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cpu": []}'], ids=["empty", "cut off", "a list", "no key"])
def test_a_damaged_stamp_does_not_count(workshop: Workshop, content: str) -> None:
    workshop.layout.stamps.mkdir(parents=True)
    (workshop.layout.stamps / "part.json").write_text(content)
    assert not workshop.is_stamped("part", "1.0", native=False, products=[])


def test_a_failing_command_says_where_its_log_is_and_how_it_ended(workshop: Workshop) -> None:
    with pytest.raises(PartFailed) as failure:
        workshop.run("part", ["sh", "-c", "echo about to fail; exit 7"])
    said = str(failure.value)
    assert "ended with 7" in said
    assert "| about to fail" in said
    assert str(workshop.layout.root / "logs" / "part.log") in said


def test_a_second_run_waits_for_the_first(workshop: Workshop, tmp_path: Path) -> None:
    holder = (
        "import sys, time; from pathlib import Path; from scripts.parts.layout import Layout;"
        "from scripts.parts.workshop import Workshop\n"
        "with Workshop(Layout(Path(sys.argv[1]))).locked():\n print('held', flush=True); time.sleep(1)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(workshop.layout.root)], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        began = time.monotonic()
        with workshop.locked():
            assert time.monotonic() - began > 0.5
            assert first.wait(10) == 0


def test_a_stopped_run_stops_the_whole_tree_it_started(tmp_path: Path) -> None:
    # The script that is run starts a process below it, as a compiler does.
    tree = f"sleep 60 & echo $! > {tmp_path}/draft; mv {tmp_path}/draft {tmp_path}/child; wait"
    maker = (
        "import signal, sys; from pathlib import Path; from scripts.parts.layout import Layout;"
        "from scripts.parts.workshop import Workshop; from scripts.parts.__main__ import _leave\n"
        "signal.signal(signal.SIGTERM, _leave)\n"
        "Workshop(Layout(Path(sys.argv[1]))).run('tree', ['sh', '-c', sys.argv[2]])"
    )
    with subprocess.Popen([sys.executable, "-c", maker, str(tmp_path / "parts"), tree], cwd=CHECKOUT) as stopped:
        _until((tmp_path / "child").exists)
        child = int((tmp_path / "child").read_text())
        stopped.terminate()
        assert stopped.wait(30) == 128 + signal.SIGTERM
    _until(lambda: not _runs(child))


def test_what_a_killed_run_left_is_swept_away(workshop: Workshop) -> None:
    leftover = workshop.layout.root / ".draft-killed"
    leftover.mkdir(parents=True)
    (leftover / "half").touch()
    with workshop.locked():
        assert not leftover.exists()


def test_a_finished_folder_replaces_the_old_one_whole(workshop: Workshop, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "stale").touch()
    workshop.layout.root.mkdir()
    with workshop.draft() as draft:
        (draft / "made").mkdir()
        (draft / "made" / "fresh").touch()
        put_in_place(draft / "made", target)
    assert [path.name for path in target.iterdir()] == ["fresh"]
    assert list(workshop.layout.root.glob(".draft-*")) == []


def test_libraries_that_a_wheel_holds_three_times_become_links(tmp_path: Path) -> None:
    wheel = tmp_path / "a.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("libx.so", "libx.so.0", "libx.so.0.20.0", "tool", ".gitkeep", "deep/er"):
            archive.writestr(f"pkg/bin/{name}", name)
        archive.writestr("pkg/other", "not below bin")
    recipes._unpack_folder(wheel, "pkg/bin/", tmp_path / "out")
    recipes._link_equal_files(tmp_path / "out")
    found = {path.name: os.readlink(path) if path.is_symlink() else "file" for path in (tmp_path / "out").iterdir()}
    assert found == {
        "libx.so": "libx.so.0.20.0",
        "libx.so.0": "libx.so.0.20.0",
        "libx.so.0.20.0": "file",
        "tool": "file",
    }


def test_every_need_is_a_part_that_stands_before_it() -> None:
    order = list(PARTS)
    for part in PARTS.values():
        assert all(order.index(need) < order.index(part.name) for need in part.needs)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"QWENOPS_PARTS": "/named", "XDG_CACHE_HOME": "/cache"}, "/named"),
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/qwenops-parts"),
        ({"HOME": "/home/somebody"}, "/home/somebody/.cache/qwenops-parts"),
    ],
    ids=["named", "by the cache folder", "by the home folder"],
)
def test_the_parts_folder(environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QWENOPS_PARTS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert default_root() == Path(expected)


def test_the_command_line_names_what_cannot_be_made_and_leaves_it_out(tmp_path: Path) -> None:
    env = {**os.environ, "QWENOPS_PARTS": str(tmp_path), "PATH": str(tmp_path)}
    command = [sys.executable, "-m", "scripts.parts", "get", "ollama"]

    def get(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], cwd=CHECKOUT, env=env, capture_output=True, text=True, timeout=120)

    strict, lenient = get(), get("--possible")
    assert (strict.returncode, lenient.returncode) == (1, 0)
    assert "ollama: left out, no Go toolchain on PATH" in strict.stdout
    assert "parts missing: ollama" in lenient.stdout
