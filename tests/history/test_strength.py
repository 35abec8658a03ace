"""Nothing that was finished is lost: two writers at once, kills at random moments, a kill while the file is upgraded.

`scripts/stress_history.py` does the same for a minute and with 50 kills; its table is docs/history-verified.md.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from scripts import stress_history
from scripts.stress_history import digest, kill_upgrades, kill_writers, look, write_together


@pytest.mark.slow
def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    together = write_together(tmp_path / "history.sqlite3", writers=2, seconds=3)
    assert together.finished > 50
    assert together.there == together.finished
    assert together.sound


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_no_finished_row(tmp_path: Path) -> None:
    killed = kill_writers(tmp_path, 6, random.Random())
    assert killed.finished > 0
    assert (killed.lost, killed.broken, killed.sound) == (0, 0, True)


@pytest.mark.slow
def test_a_kill_while_an_older_file_is_upgraded_leaves_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stress_history, "OLD_ROWS", 20_000)
    upgraded = kill_upgrades(tmp_path, 3, random.Random())
    assert (upgraded.lost, upgraded.broken, upgraded.sound) == (0, 0, True)


def test_the_count_sees_a_row_that_is_missing_or_altered(tmp_path: Path) -> None:
    from qwenops import history

    path = tmp_path / "history.sqlite3"
    with history.open(path) as kept:
        number = kept.record_plan("m", {"n": 1})
    good, bad = digest(("m", {"n": 1})), digest(("m", {"n": 2}))
    assert look(path, [f"plans {number} {good} 0"]) == (1, 0)
    assert look(path, [f"plans {number} {bad} 0", f"plans {number + 1} {good} 0"]) == (0, 0)
