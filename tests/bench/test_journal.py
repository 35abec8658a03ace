"""What a run keeps as it goes: every whole turn is found again, whatever a kill left behind."""

from __future__ import annotations

import pytest

from qwenops.bench.journal import Journal, unfinished
from qwenops.bench.types import Timing

TURN = (Timing({"pp8": 10.0}, began=1.0, ended=2.0, tokens=8),)


def test_a_run_is_gone_on_with_from_what_it_kept() -> None:
    journal = Journal.begin({"models": ["m"]})
    journal.add(0, 0, 0, TURN)
    again, asked, turns = Journal.resume("last")
    assert (again.run, asked, [t.timings for t in turns]) == (journal.run, {"models": ["m"]}, [TURN])
    again.end()
    assert unfinished() == []


@pytest.mark.parametrize("left", [b"{", b'{"variant": 0, "test": 0, "rou'])
def test_a_line_that_a_kill_cut_off_costs_no_other(left: bytes) -> None:
    journal = Journal.begin({})
    journal.add(0, 0, 0, TURN)
    with journal.path.open("ab") as file:
        file.write(left)
    again, _, _ = Journal.resume(journal.run)
    again.add(0, 0, 1, TURN)
    _, _, turns = Journal.resume(journal.run)
    assert [turn.round_ for turn in turns] == [0, 1]
