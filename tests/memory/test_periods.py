"""What is left out of a word comes back: the kept blocks and what comes again spell the whole model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.memory.periods import shortened


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("aaaaaaaaz", "aaaz"),
        ("hhhhhhhhhhddddddddz", "hhhdddz"),
        ("rrrarrrarrrarrrarrrz", "rrrarrrarrrz"),
        ("llllllflllllflllllflllllflllz", "lllflllflllflllz"),
        ("abc", "abc"),
        ("aaa", "aaa"),
        ("", ""),
    ],
    ids=[
        "one kind",
        "host and device",
        "three recurrent blocks and one that attends",
        "windows, of which three of a row are enough",
        "nothing comes again",
        "as few as there must be",
        "no blocks",
    ],
)
def test_a_period_is_kept_twice_and_a_little_more(word: str, kept: str) -> None:
    assert "".join(word[i] for i in shortened(word).kept) == kept


@given(
    st.lists(st.tuples(st.text("abc", min_size=1, max_size=6), st.integers(1, 12)), max_size=4),
    st.integers(1, 4),
)
def test_the_kept_blocks_spell_the_whole_word(parts: list[tuple[str, int]], behind: int) -> None:
    word = "".join(part * times for part, times in parts)
    short = shortened(word, behind)
    assert "".join(word[short.kept[i]] for i in short.sources) == word
    assert list(short.kept) == sorted(set(short.kept))
    for repeat in short.repeats:
        assert repeat.times > 0
        assert repeat.period <= repeat.at <= len(short.kept) - repeat.period - behind
