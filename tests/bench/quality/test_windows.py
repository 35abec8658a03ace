"""Every window's second half is scored once, and no decode is larger than the batch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.bench.quality.windows import Decode, Rows, decodes, first_scored, scored


@given(st.integers(16, 300), st.integers(1, 700), st.integers(0, 7))
def test_each_position_after_the_middle_is_scored_once_and_the_last_one_never(
    ctx: int, batch: int, chunks: int
) -> None:
    calls = list(decodes(range(chunks), ctx, batch))
    seen = [(rows.chunk, rows.position + i) for call in calls for rows in call.rows for i in range(rows.count)]
    wanted = [(chunk, position) for chunk in range(chunks) for position in range(first_scored(ctx), ctx - 1)]
    assert sorted(seen) == wanted
    assert len(wanted) == chunks * scored(ctx)
    assert sum(call.tokens for call in calls) == chunks * ctx
    assert all(call.tokens <= max(batch, 1) for call in calls)


def test_windows_that_a_batch_holds_stand_side_by_side_and_a_rest_alone() -> None:
    calls = list(decodes([3, 5, 9], 8, 20))
    assert calls == [
        Decode((3, 5), 0, 8, (Rows(3, 4, 3), Rows(5, 4, 3)), begins=True, ends=True),
        Decode((9,), 0, 8, (Rows(9, 4, 3),), begins=True, ends=True),
    ]


def test_a_window_longer_than_a_batch_is_read_in_parts_of_which_the_first_may_score_nothing() -> None:
    assert list(decodes([0], 16, 6)) == [
        Decode((0,), 0, 6, (), begins=True, ends=False),
        Decode((0,), 6, 6, (Rows(0, 8, 4),), begins=False, ends=False),
        Decode((0,), 12, 4, (Rows(0, 12, 3),), begins=False, ends=True),
    ]


@pytest.mark.parametrize(("ctx", "rows"), [(512, 255), (511, 255), (16, 7)])
def test_as_many_tokens_are_scored_as_llama_perplexity_scores(ctx: int, rows: int) -> None:
    assert scored(ctx) == rows
