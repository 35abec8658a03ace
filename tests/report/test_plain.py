"""Text from elsewhere is shown, and does nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.report.plain import one_line, plain, whole

RIGHT_TO_LEFT, LEFT_AGAIN = "\u202e", "\u202c"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Qwen3-VL", "Qwen3-VL"),
        ("a\ud800b", "a\ufffdb"),
        (f"gpj.{RIGHT_TO_LEFT}exe{LEFT_AGAIN}", "gpj.[U+202E]exe[U+202C]"),
        ("\x1b[2Jgone", "␛[2Jgone"),
        ("nul\x00del\x7f", "nul␀del␡"),
        ("\x85\x9b31m", "[U+0085][U+009B]31m"),
        ("two\r\nlines\tand a tab", "two\nlines\tand a tab"),
        ("עברית and 中文 stay", "עברית and 中文 stay"),
    ],
)
def test_what_would_act_or_hide_is_spelled_out(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_long_name_loses_its_middle() -> None:
    assert one_line("Qwen3-VL-30B-A3B-Instruct-UD-Q4_K_XL", 12) == "Qwen3…4_K_XL"
    assert one_line("two\nlines") == "two lines"


@given(st.text(st.characters()), st.integers(1, 40))
def test_a_cut_line_is_as_long_as_asked_and_can_be_written(text: str, most: int) -> None:
    assert len(one_line(text, most)) <= most
    one_line(text).encode()
    whole(text).encode()
