"""The progress line: how far, how fast, how long."""

from __future__ import annotations

import pytest

from qwenops.cli.common import Follower, time_left

MIB = 1024**2


class Clock:
    """A time that the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_step_says_how_far_how_fast_and_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    follow = Follower(clock)
    follow("downloading a.gguf", 100 * MIB, 1000 * MIB)  # what was there before is no speed
    assert capsys.readouterr().err == ""
    clock.now += 10
    follow("downloading a.gguf", 300 * MIB, 1000 * MIB)
    assert capsys.readouterr().err == "downloading a.gguf 30% of 1 000 MiB, 20.0 MiB/s, 35 s left\n"
    clock.now += 10
    follow("reading a.gguf", 0, 1000 * MIB)
    assert capsys.readouterr().err == "reading a.gguf 0% of 1 000 MiB\n"
    clock.now += 10
    follow("asking", 0, 0)
    assert capsys.readouterr().err == "asking\n"


def test_lines_are_ten_seconds_apart_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    follow = Follower(clock)
    for _ in range(100):
        clock.now += 0.5
        follow("reading", 1, 2)
    assert len(capsys.readouterr().err.splitlines()) == 5


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (86400, "24.0 h")]
)
def test_a_time_is_said_in_the_unit_that_reads_best(seconds: float, said: str) -> None:
    assert time_left(seconds) == said
