"""The file of the history: old, new, broken, forbidden, and written by many at once."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenops import history
from qwenops.errors import NotAllowed, PartMissing, QwenopsError
from qwenops.history import migrations
from tests.support.user import ordinary_user

ROOT = Path(__file__).resolve().parents[2]


def start_writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.history.writer", str(path), name, str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=st.lists(st.integers(1, 25), min_size=2, max_size=6), existing=st.booleans())
def test_many_processes_at_once_lose_nothing(tmp_path: Path, counts: list[int], existing: bool) -> None:
    folder = tmp_path / f"{time.monotonic_ns()}"
    path = folder / "history.sqlite3"
    if existing:
        history.open(path).record_plan("before", {"number": 0})
    writers = [start_writer(path, f"writer {n}", count) for n, count in enumerate(counts)]
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, errors

    wanted = {(f"writer {n}", number) for n, count in enumerate(counts) for number in range(count)}
    with history.open(path) as notes:
        plans = [(p.model_key, p.plan["number"]) for p in notes.plans() if p.model_key != "before"]
        assert Counter(plans) == Counter(wanted)
        measured = [(r.model_key, r.measured["number"]) for r in notes.loads() if r.ok and r.measured]
        assert Counter(measured) == Counter(wanted)
        assert Counter((r.model, r.samples[0]) for r in notes.results()) == Counter(wanted)
        [shared] = notes.made()
        assert (shared.details["by"], shared.details["number"]) in wanted


def test_a_writer_killed_in_the_middle_leaves_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    writer = start_writer(path, "doomed", 100_000)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with history.open(path) as notes:
            if len(notes.results()) >= 3:
                break
        time.sleep(0.02)
    writer.kill()
    writer.communicate()
    with history.open(path) as notes:
        numbers = [p.plan["number"] for p in notes.plans()]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= 3
        notes.record_plan("after", {"number": -1})
        assert notes.plans()[-1].model_key == "after"


def test_a_writer_that_holds_the_file_is_waited_for_and_then_named(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    with history.open(path, busy_seconds=0.2) as notes:
        notes.record_plan("m", {})
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("begin immediate")
        started = time.monotonic()
        with pytest.raises(QwenopsError, match="held by another process") as caught:
            notes.record_plan("m", {})
        assert time.monotonic() - started >= 0.2
        assert caught.value.do == (f"fuser -v {path}",)
        assert len(notes.plans()) == 1, "reading goes on while another writes"
        holder.execute("rollback")
        holder.close()
        notes.record_plan("m", {})
        assert len(notes.plans()) == 2


FILL = """
import resource, sys
from pathlib import Path
from qwenops import history
from qwenops.errors import QwenopsError
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
notes = history.open(Path(sys.argv[1]))
kept = 0
try:
    for _ in range(1000):
        notes.record_plan("m", {"much": "x" * 5000})
        kept += 1
except QwenopsError as error:
    print(kept, error.message, error.do[0], error.exit_code, sep="\\n")
"""


def test_a_file_that_cannot_grow_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    kept, message, do, exit_code = done.stdout.splitlines()
    assert message == f"the history {path} could not be written: disk I/O error"
    assert do == f"df -h {tmp_path}"
    assert exit_code == "3"
    with history.open(path) as notes:
        assert len(notes.plans()) == int(kept) > 3


def test_the_file_knows_the_steps_it_was_made_with(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    with history.open(path) as notes:
        notes.record_plan("m", {})
    with sqlite3.connect(path) as db:
        assert [r[0] for r in db.execute("select name from migrations order by name")] == migrations.names()
        assert db.execute("pragma journal_mode").fetchone() == ("wal",)
    db.close()


def test_steps_are_named_in_their_order() -> None:
    assert migrations.names() == sorted(migrations.names())
    assert len(set(migrations.names())) == len(migrations.names())


@pytest.mark.parametrize("steps", range(len(migrations.STEPS) + 1))
def test_a_file_of_any_earlier_age_is_brought_up_to_date_with_its_rows(tmp_path: Path, steps: int) -> None:
    path = tmp_path / "history.sqlite3"
    with sqlite3.connect(path) as db:
        db.execute("create table migrations (name text primary key, taken text not null)")
        for step in migrations.STEPS[:steps]:
            step(db)
            db.execute("insert into migrations values (?, '2026-01-01')", (step.__name__,))
        if steps:
            db.execute("insert into plans values (7, '2026-01-01T00:00:00.000000+00:00', 'old', ?)", ('{"kept":true}',))
    db.close()
    with history.open(path) as notes:
        assert [(p.id, p.plan) for p in notes.plans()] == ([(7, {"kept": True})] if steps else [])
        notes.record_made("file", "x", "y")
        assert len(notes.made()) == 1


def test_results_of_an_older_history_get_their_kind_and_unit(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    with sqlite3.connect(path) as db:
        db.execute("create table migrations (name text primary key, taken text not null)")
        for step in migrations.STEPS[:5]:
            step(db)
            db.execute("insert into migrations values (?, '2026-01-01')", (step.__name__,))
        for test in ("tg128 @ d4096", "kld c512", "sight"):
            db.execute(
                "insert into results (created, model, test, settings, machine, samples) "
                "values ('2026-01-01T00:00:00+00:00', 'm Q4_0', ?, '{}', '{}', '[1.5]')",
                (test,),
            )
    db.close()
    with history.open(path) as notes:
        rows = notes.results()
    assert [(r.kind, r.unit, r.samples, r.evidence) for r in rows] == [
        ("speed", "t/s", (1.5,), {}),
        ("quality", "nats", (1.5,), {}),
        ("sight", "", (1.5,), {}),
    ]
    assert [r.model_key for r in rows] == ["", "", "m Q4_0"]


def test_an_empty_file_becomes_a_history(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    path.touch()
    with history.open(path) as notes:
        assert notes.plans() == ()
        notes.record_plan("m", {})
        assert len(notes.plans()) == 1


def test_a_newer_history_says_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    with history.open(path) as notes:
        notes.record_plan("m", {})
    with sqlite3.connect(path) as db:
        db.execute("insert into migrations values ('m999_time_travel', '2030-01-01')")
    db.close()
    with pytest.raises(PartMissing, match="m999_time_travel") as caught, history.open(path) as notes:
        notes.plans()
    assert caught.value.do[0] == "pip install --upgrade qwenops"
    assert caught.value.do[1] == f"mv {path} {path}.newer"


def write_text(path: Path) -> None:
    path.write_text("this is not a database, it is a letter\n" * 50)


def write_half(path: Path) -> None:
    with history.open(path) as notes:
        for number in range(200):
            notes.record_plan("m", {"number": number, "much": "x" * 500})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def write_other(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("create table bookmarks (url text)")
    db.close()


def write_gap(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("create table migrations (name text primary key, taken text not null)")
        db.execute("insert into migrations values (?, 'x')", (migrations.names()[1],))
    db.close()


def write_bad_row(path: Path) -> None:
    with history.open(path) as notes:
        notes.record_plan("m", {})
    with sqlite3.connect(path) as db:
        db.execute("update plans set plan = 'not json'")
    db.close()


@pytest.mark.parametrize("make", [write_text, write_half, write_other, write_gap, write_bad_row])
def test_a_broken_file_is_named_with_the_command_that_moves_it_aside(
    tmp_path: Path, make: object, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "history.sqlite3"
    assert callable(make)
    make(path)
    before = path.read_bytes()
    with pytest.raises(QwenopsError) as caught, history.open(path) as notes:
        notes.plans()
    assert caught.value.message
    assert caught.value.do[0].startswith(f"mv {path} ")
    assert path.read_bytes() == before
    subprocess.run(caught.value.do[0].split(), check=True)
    with history.open(path) as notes:
        assert notes.plans() == ()


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    path.mkdir()
    with pytest.raises(QwenopsError, match=r"history\.sqlite3"), history.open(path) as notes:
        notes.plans()


def test_a_file_in_the_place_of_a_folder_is_named_on_the_first_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with history.open(tmp_path / "file" / "history.sqlite3") as notes:
        assert notes.plans() == ()
        with pytest.raises(QwenopsError, match="could not be used"):
            notes.record_plan("m", {})


def test_who_may_only_read_can_read_and_is_told_when_writing() -> None:
    with ordinary_user() as folder:
        path = folder / "history.sqlite3"
        with history.open(path) as notes:
            notes.record_plan("m", {"kept": True})
        folder.chmod(0o500)
        path.chmod(0o400)
        with history.open(path) as notes:
            assert [p.plan for p in notes.plans()] == [{"kept": True}]
            with pytest.raises(NotAllowed) as caught:
                notes.record_plan("m", {})
        assert str(path) in caught.value.message
        assert caught.value.do[0].startswith("ls -ld ")


def test_who_may_not_even_read_is_told() -> None:
    with ordinary_user() as folder:
        path = folder / "history.sqlite3"
        with history.open(path) as notes:
            notes.record_plan("m", {})
        path.chmod(0)
        with pytest.raises(NotAllowed), history.open(path) as notes:
            notes.plans()


def test_a_folder_that_may_not_be_made_is_told() -> None:
    with ordinary_user() as folder:
        folder.chmod(0o500)
        with history.open(folder / "new" / "history.sqlite3") as notes:
            assert notes.plans() == ()
            with pytest.raises(NotAllowed):
                notes.record_plan("m", {})


def test_a_copy_of_the_file_alone_is_a_whole_history_after_closing(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    with history.open(path) as notes:
        notes.record_plan("m", {})
    shutil.copy(path, tmp_path / "copy.sqlite3")
    with history.open(tmp_path / "copy.sqlite3") as copy:
        assert len(copy.plans()) == 1
