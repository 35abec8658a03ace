"""A score means what it says: readers whose answers are known come out as they must."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenops.bench.reading.engines.types import Failed
from qwenops.bench.reading.figures import mean, paired, share
from qwenops.bench.reading.loops import stuck
from qwenops.bench.reading.made import made_pages
from qwenops.bench.reading.misread import first_difference
from qwenops.bench.reading.score import even, looped, rates, same_field, score, words_of
from qwenops.bench.reading.types import Answer, Ended, Page
from tests.bench.reading.readers import KnownReader, row_of

PAGES = made_pages(14, 1).pages
texts = st.text(max_size=60)


def answer(text: str, ended: Ended = "stop") -> Answer:
    return Answer(text, ended, 10, 10, 0.1, 0.1)


def page(truth: str) -> Page:
    return Page("p", "clean", truth, b"", 1, 1)


def right(one: Page) -> str:
    return one.truth if one.fields is None else json.dumps(one.fields)


def test_a_perfect_reader_has_no_error_on_any_kind_of_page() -> None:
    row = row_of(KnownReader("perfect", PAGES, lambda p: (right(p), "stop")), PAGES)
    assert row["status"] == "ok"
    assert row["cer"] == row["wer"] == {"value": 0, "low": 0, "high": 0}
    assert row["wrong"]["value"] == 0
    assert row["wrong"]["high"] > 0.1  # fourteen right pages do not prove that every one is
    assert row["forms"]["exact"]["value"] == row["forms"]["fields"]["value"] == 1
    assert (row["loops"], row["empty"], row["misread"]) == (0, 0, [])
    assert row["seconds_per_page"]["value"] == 1.5


def test_an_empty_reader_misses_everything() -> None:
    row = row_of(KnownReader("empty", PAGES, lambda p: (" \n", "stop")), PAGES)
    assert row["cer"]["value"] == row["wer"]["value"] == row["wrong"]["value"] == 1
    assert row["forms"]["exact"]["value"] == row["forms"]["fields"]["value"] == 0
    assert (row["empty"], row["loops"]) == (14, 0)


def test_a_reader_that_answers_every_page_with_the_one_before_is_nearly_all_wrong() -> None:
    before = dict(zip((p.id for p in PAGES), (PAGES[-1], *PAGES), strict=False))
    row = row_of(KnownReader("shifted", PAGES, lambda p: (right(before[p.id]), "stop")), PAGES)
    assert row["cer"]["value"] > 0.6
    assert row["wrong"]["value"] == 1
    assert (row["empty"], row["loops"]) == (0, 0)


def test_a_reader_that_gets_each_first_letter_wrong_misses_one_letter_a_page_and_not_the_page() -> None:
    written = [p for p in PAGES if p.fields is None]
    row = row_of(KnownReader("late", written, lambda p: ("¤" + p.truth[1:], "stop")), written)
    expected = sum(1 / len(even(p.truth)) for p in written) / len(written)
    assert row["cer"]["value"] == pytest.approx(expected)
    assert row["wrong"]["value"] == 1


def test_a_looping_reader_is_counted_and_its_error_stays_a_share() -> None:
    def says(p: Page) -> tuple[str, Ended]:
        return right(p) + "\nthe same line again" * 60, "length"

    row = row_of(KnownReader("looping", PAGES, says), PAGES)
    assert row["loops"] == 14
    assert row["cer"]["value"] == 1
    assert row["forms"]["exact"]["value"] == 1  # the form was there before the loop began


def test_a_page_that_could_not_be_asked_is_named_and_not_scored() -> None:
    reader = KnownReader("half", PAGES, lambda p: Failed("no room") if p.kind == "table" else (right(p), "stop"))
    row = row_of(reader, PAGES)
    assert [f["page"] for f in row["failed_pages"]] == ["table-001"]
    assert (row["answered"], row["cer"]["value"]) == (13, 0)


@given(texts)
def test_equal_texts_have_no_error(text: str) -> None:
    assert rates(text, text) == (0, 0)
    assert rates(text, text, strict=True) == (0, 0)


@given(texts, texts, st.booleans())
def test_an_error_rate_lies_between_none_and_all(truth: str, read: str, strict: bool) -> None:
    for rate in rates(truth, read, strict=strict):
        assert 0 <= rate <= 1
    assert (rates(truth, read, strict=strict)[0] == 0) == (even(truth, strict=strict) == even(read, strict=strict))


@given(texts.filter(lambda t: even(t) != ""))
def test_reading_nothing_is_all_wrong(truth: str) -> None:
    assert rates(truth, "") == (1, 1)


@given(texts)
def test_what_is_made_even_stays_as_it_is_for_plain_words(text: str) -> None:
    plain = "".join(c for c in text if c.isalnum() or c == " ")
    assert even(even(plain)) == even(plain)


@pytest.mark.parametrize(
    ("truth", "read"),
    [
        ("Name Yield\nFagle 25 %", "| Name | Yield |\n|---|:--:|\n| Fagle | 25 % |"),
        ("8. Mutrada\nOur baker", "# 8. Mutrada\n\n**Our** baker"),
        ("8. Mutrada", "```text\n8. Mutrada\n```"),
        ("HERON", "<think>a bird?</think>HERON"),
        ("新来的\n老师在", "新来的 老师 在"),
        ("café", unicodedata.normalize("NFD", "café")),
        ("one\r\ntwo", "one two\n"),
    ],
)
def test_what_a_model_adds_around_the_words_counts_for_nothing_unless_strict(truth: str, read: str) -> None:
    assert rates(truth, read) == (0, 0)
    if even(truth, strict=True) != even(read, strict=True):
        assert rates(truth, read, strict=True)[0] > 0


@pytest.mark.parametrize(
    ("truth", "read", "cer", "wer"),
    [
        ("kitten", "sitting", 3 / 6, 1),
        ("Total 12.50", "total 12.50", 1 / 11, 1 / 2),
        ("e", "é", 1, 1),
        ("a b c d", "a b x d", 1 / 7, 1 / 4),
        ("今天我们去", "今天他们去", 1 / 5, 1 / 5),
        ("x" * 10, "x" * 100, 1, 1),
        ("", "word", 1, 1),
    ],
)
def test_errors_are_edits_by_what_stands_there(truth: str, read: str, cer: float, wer: float) -> None:
    assert rates(truth, read) == pytest.approx((cer, wer))


def test_a_thought_that_never_ends_is_an_empty_answer() -> None:
    assert score(page("word"), answer("<think>let me see", "length")).empty


def test_words_are_split_at_blanks_and_every_ideograph_is_one() -> None:
    assert words_of("ein Wort, 今天 kein A4") == ["ein", "Wort,", "今", "天", "kein", "A4"]


@pytest.mark.parametrize(
    ("wanted", "got", "same"),
    [
        ("12.50", "12.50", True),
        ("12.50", 12.5, True),
        ("12.50", "12.5", False),
        ("7127 Mill Lane", "7127  Mill Lane", True),
        ("1", True, False),
        ("x", None, False),
        ("x", ["x"], False),
        ("12", float("nan"), False),
    ],
)
def test_a_field_is_right_or_wrong(wanted: str, got: object, same: bool) -> None:
    assert same_field(wanted, got) is same


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ('{"date": "1/2/2020", "total": "3.40"}', 2),
        ('Here it is:\n```json\n{"date": "1/2/2020", "total": 3.4}\n```', 2),
        ('{"date": "1/2/2020"}', 1),
        ('{"date": "1/2/2020", "total": ', 0),
        ("[[[[[[" * 5000, 0),
        ("none", 0),
    ],
)
def test_a_form_is_found_in_what_was_said(said: str, right: int) -> None:
    form = Page("p", "fields", "1/2/2020\n3.40", b"", 1, 1, {"date": "1/2/2020", "total": "3.40"})
    scored = score(form, answer(said))
    assert sum((scored.fields or {}).values()) == right
    assert scored.exact == (right == 2)
    assert (scored.cer == 0) == (right == 2)


def test_a_page_of_dots_is_no_loop_and_an_answer_that_ended_is_none() -> None:
    assert looped("some words", answer("word " * 40, "length"))
    assert not looped("some words", answer("word " * 40, "stop"))
    assert not looped("." * 80, answer("." * 80, "length"))
    assert looped("some words", answer("short", "loop"))


@given(st.text(min_size=1, max_size=120), st.integers(0, 119))
def test_an_answer_that_repeats_one_piece_is_cut(piece: str, into: int) -> None:
    looping = "It began well. " + piece * (600 // len(piece) + 1)
    assert stuck(looping[: max(len(looping) - into % len(piece), 600)])


@pytest.mark.parametrize("one", PAGES, ids=lambda p: p.id)
def test_no_page_of_ours_would_be_cut(one: Page) -> None:
    assert not any(stuck(one.truth[:n]) for n in range(len(one.truth) + 1))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_an_interval_holds_its_mean(values: list[float]) -> None:
    found = mean(values)
    assert found.low - 1e-9 <= found.value <= found.high + 1e-9
    assert mean(values) == found


@given(st.integers(0, 50), st.integers(1, 50))
def test_a_share_has_an_interval_even_where_none_or_all_were_hit(hits: int, more: int) -> None:
    found = share(hits, hits + more)
    assert 0 <= found.low <= found.value < found.high <= 1


def test_pairs_show_what_means_cannot() -> None:
    hard = {str(n): n / 100 for n in range(80)}
    worse = {page: value + 0.01 + 0.001 * (int(page) % 5) for page, value in hard.items()}
    found = paired(worse, hard)
    assert found.shown
    assert found.difference.value == pytest.approx(0.012)
    assert mean(list(worse.values())).low < mean(list(hard.values())).value
    nothing = paired(hard, dict(hard))
    assert nothing.same
    assert not nothing.shown
    noise = {page: value + (0.05 if int(page) % 2 else -0.05) for page, value in hard.items()}
    assert not paired(noise, hard).shown


def test_an_example_shows_where_both_part() -> None:
    shown = first_difference("The night clerk counts 770 copper keys", "The night clerk counts 710 copper keys")
    assert shown == {"truth": "…ght clerk counts 770 copper keys", "read": "…ght clerk counts 710 copper keys"}
    assert first_difference("abc", "") == {"truth": "abc", "read": ""}
