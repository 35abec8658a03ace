"""A picture that was not seen is remembered: `up` run again shows another one in place of saying that all went well."""

from __future__ import annotations

import pytest

from qwenops import history
from qwenops.history import Outcome
from qwenops.memory.measured import settings_key
from qwenops.memory.types import LoadSettings
from qwenops.setup.history import history_result
from qwenops.setup.seeing import TEST, failed_before

SETTINGS = LoadSettings(num_ctx=4096)


def seen(about: dict[str, str], ok: bool) -> Outcome:
    sample = {"ok": ok, "why": None}
    return Outcome(kind="sight", model="m", model_key="model", test=TEST, settings=about, samples=(sample,))


@pytest.mark.parametrize(
    ("outcomes", "failed"),
    [((), False), ((True,), False), ((False,), True), ((False, True), False), ((True, False), True)],
)
def test_the_last_picture_counts(outcomes: tuple[bool, ...], failed: bool) -> None:
    with history.open() as kept:
        for ok in outcomes:
            about = {"settings_key": settings_key(SETTINGS)}
            kept.record_result(seen(about, ok))
        assert failed_before(kept, "model", SETTINGS) is failed
        assert not failed_before(kept, "another", SETTINGS)
        assert not failed_before(kept, "model", LoadSettings(num_ctx=8192))


def test_pictures_are_no_benchmarks() -> None:
    with history.open() as kept:
        kept.record_result(seen({}, True))
        kept.record_result(Outcome(model="model", test="tg8", samples=(2.0, 3.0)))
    assert [row["test"] for row in history_result(limit=9).data["results"]] == ["tg8"]
