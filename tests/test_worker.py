"""The worker turns every way in which a child can end into an answer or a clear error."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from qwenops.errors import BadInput, ChildDied
from qwenops.worker import run

HERE = "tests.worker_functions"


def test_an_answer_comes_back_although_the_library_prints() -> None:
    heard: list[Mapping[str, Any]] = []
    assert run(f"{HERE}:double", {"n": 21}, limit_s=30, on_event=heard.append) == {"n": 42}
    assert [event["event"] for event in heard] == ["half way"]


def test_an_abort_names_the_signal_and_the_last_words() -> None:
    with pytest.raises(ChildDied, match=r"abort was ended by SIGABRT.*GGML_ASSERT\(n > 0\) failed"):
        run(f"{HERE}:abort", {}, limit_s=30)


def test_a_child_that_hangs_is_stopped_at_its_limit() -> None:
    started = time.monotonic()
    with pytest.raises(ChildDied, match="hang was stopped after its limit of 1 s"):
        run(f"{HERE}:hang", {}, limit_s=1)
    assert time.monotonic() - started < 20


def test_an_error_of_ours_comes_back_as_itself() -> None:
    with pytest.raises(BadInput, match="seven is not even") as caught:
        run(f"{HERE}:refuse", {}, limit_s=30)
    assert caught.value.do == ("give an even number",)


def test_a_child_that_leaves_without_an_answer_is_named_with_its_code() -> None:
    with pytest.raises(ChildDied, match="leave ended with code 7 and no answer"):
        run(f"{HERE}:leave", {}, limit_s=30)
