"""The log from a mark on: appended to, rotated, gone, or a journal."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from qwenops.ollama.serverlog import lines_since, mark
from qwenops.runtime.types import Runtime


def _runtime(path: Path | None = None, unit: str | None = None) -> Runtime:
    return Runtime(place="local", url="http://127.0.0.1:9", log_path=path, unit=unit)


def test_only_what_came_after_the_mark_is_read(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("before\n")
    place = mark(_runtime(log))
    with log.open("a") as more:
        more.write("after ü\n")

    assert lines_since(place) == ("after ü\n", "")


def test_a_rotated_log_is_read_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("a long first log\n" * 10)
    place = mark(_runtime(log))
    log.write_text("new\n")

    assert lines_since(place) == ("new\n", "")


def test_a_log_that_is_gone_or_unknown_says_why(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("x")
    place = mark(_runtime(log))
    log.unlink()

    assert lines_since(place) == ("", f"the log {log} cannot be read: No such file or directory")
    assert lines_since(mark(_runtime(log)))[1].startswith(f"the log {log} cannot be read")
    assert lines_since(mark(_runtime())) == ("", "no log of this server is in reach")


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program named journalctl that notes its arguments and knows the user's unit only."""
    program = tmp_path / "bin" / "journalctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n[ "$1" = --user-unit ] && echo line || true\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "asked"


def test_a_service_of_the_user_is_found_in_the_journal(journal: Path) -> None:
    assert lines_since(mark(_runtime(unit="ollama.service"))) == ("line\n", "")
    system, user = journal.read_text().splitlines()
    assert system.startswith("--unit ollama.service --since @")
    assert user.startswith("--user-unit ollama.service --since @")


def test_a_journal_that_may_not_be_read_is_said_to_be_so(journal: Path, tmp_path: Path) -> None:
    (tmp_path / "bin" / "journalctl").write_text("#!/bin/sh\nexit 0\n")
    assert "systemd-journal" in lines_since(mark(_runtime(unit="ollama.service")))[1]
    (tmp_path / "bin" / "journalctl").write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    assert "cannot be read" in lines_since(mark(_runtime(unit="ollama.service")))[1]
