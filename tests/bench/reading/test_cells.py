"""What was answered is kept: asked once, found again whatever else is asked, and not taken from a damaged line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qwenops.bench.lines import Lines
from qwenops.bench.reading.cells import kept_folder
from qwenops.bench.reading.made import made_pages
from qwenops.bench.reading.types import Asking
from tests.bench.reading.readers import KnownReader, cell_of
from tests.support.cli import qwenops

PAGES = made_pages(6, 1, ["codes"]).pages


def reader(name: str = "one", stop_at: str = "") -> KnownReader:
    def says(page):  # type: ignore[no-untyped-def]
        if page.id == stop_at:
            raise KeyboardInterrupt
        return page.truth, "stop"

    return KnownReader(name, PAGES, says)


def test_a_run_that_was_stopped_goes_on_with_the_next_page() -> None:
    with pytest.raises(KeyboardInterrupt):
        cell_of(reader(stop_at="codes-004"), PAGES)
    again = reader()
    cell = cell_of(again, PAGES)
    assert again.asked == ["codes-004", "codes-005", "codes-006"]
    assert (len(cell.answers), cell.here) == (6, 3)


def test_answers_are_one_readers_in_one_way_of_asking() -> None:
    cell_of(reader(), PAGES)
    for other, asking in ((reader("two"), Asking()), (reader(), Asking(temperature=0.5)), (reader(), Asking(64))):
        cell_of(other, PAGES, asking)
        assert len(other.asked) == 6
    same = reader()
    assert cell_of(same, made_pages(8, 1, ["codes"]).pages[:6]).here == 0
    assert same.asked == []


def test_a_damaged_line_is_asked_again() -> None:
    cell_of(reader(), PAGES)
    (journal,) = kept_folder().glob("*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"tokens": ', b'"tokens": 9', 1)
    journal.write_bytes(b"".join(lines[:5]) + lines[5][:40])
    again = reader()
    cell = cell_of(again, PAGES)
    assert again.asked == ["codes-002", "codes-006"]
    assert len(cell.answers) == 6
    assert cell_of(reader(), PAGES).here == 0


def test_a_full_disk_stops_the_cell_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Lines, entry: object) -> None:
        raise OSError(28, os.strerror(28), str(self.path))

    monkeypatch.setattr(Lines, "append", full)
    cell = cell_of(reader(), PAGES)
    assert cell.stopped is not None
    assert "No space left" in cell.stopped.message


def test_two_at_once_do_not_ask_the_same(tmp_path: Path) -> None:
    from filelock import FileLock

    cell_of(reader(), PAGES)
    (journal,) = kept_folder().glob("*.jsonl")
    with FileLock(journal.with_suffix(".lock")):
        cell = cell_of(reader(), PAGES)
    assert cell.stopped is not None
    assert "another qwenops" in cell.stopped.message


def test_old_answers_are_taken_away_by_gc_and_not_while_they_are_asked_for() -> None:
    from filelock import FileLock

    cell_of(reader(), PAGES)
    (journal,) = kept_folder().glob("*.jsonl")
    os.utime(journal, (1e9, 1e9))
    with FileLock(journal.with_suffix(".lock")):
        qwenops("gc", "--yes")
        assert journal.exists()
    os.utime(journal.with_suffix(".lock"), (1e9, 1e9))
    told = qwenops("gc", "--yes", "--json")
    (thing,) = (t for t in told.data["things"] if t["kind"] == "reading")
    assert (thing["taken"], thing["path"]) == (True, str(journal))
    assert not journal.exists()
