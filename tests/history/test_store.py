"""The history: rows go in, the same values come out, and nothing is made before the first write."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenops import history
from qwenops.errors import BadInput
from qwenops.history import History, Outcome

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def notes(tmp_path: Path) -> History:
    return history.open(tmp_path / "deep" / "folder" / "history.sqlite3")


def test_the_users_history_lies_in_the_data_folder(qwenops_home: Path) -> None:
    assert history.open().path == qwenops_home / "data" / "history.sqlite3"


def test_reading_what_does_not_exist_is_empty_and_makes_nothing(notes: History, tmp_path: Path) -> None:
    assert notes.plans() == notes.loads() == notes.results() == notes.made() == ()
    assert notes.measured_loads("m", "s", "b", "d") == ()
    assert notes.clear() == {"plans": 0, "loads": 0, "results": 0}
    assert notes.delete_files() == ()
    assert list(tmp_path.glob("deep*")) == []


def test_the_first_write_makes_the_folders_and_the_file(notes: History) -> None:
    before = datetime.now(timezone.utc)
    number = notes.record_plan("sha256:abc", {"fits": "yes", "choice": {"num_ctx": 8192}})
    [plan] = notes.plans()
    assert notes.path.exists()
    assert (plan.id, plan.model_key, plan.plan) == (number, "sha256:abc", {"fits": "yes", "choice": {"num_ctx": 8192}})
    assert before <= plan.created <= before + timedelta(seconds=30)


def test_another_opening_sees_what_was_written(notes: History) -> None:
    notes.record_plan("a", {"n": 1})
    with history.open(notes.path) as again:
        again.record_plan("b", {"n": 2})
    assert [p.plan["n"] for p in notes.plans()] == [1, 2]
    assert [p.plan["n"] for p in notes.plans("b")] == [2]


def test_a_load_is_predicted_first_and_measured_after(notes: History) -> None:
    key = ("model", "settings", "b10434", "Vulkan0")
    number = notes.record_load(*key, {"total_bytes": 100})
    [waiting] = notes.loads()
    assert (waiting.predicted, waiting.measured, waiting.ok) == ({"total_bytes": 100}, None, None)
    assert notes.measured_loads(*key) == ()

    notes.finish_load(number, {"total_bytes": 101}, ok=True)
    [done] = notes.measured_loads(*key)
    assert (done.predicted, done.measured, done.ok) == ({"total_bytes": 100}, {"total_bytes": 101}, True)


def test_only_good_loads_of_exactly_this_kind_count_as_measured(notes: History) -> None:
    key = ("model", "settings", "b10434", "Vulkan0")
    good = notes.record_load(*key, {}, {"n": 1}, ok=True)
    notes.record_load(*key, {}, {"n": 2}, ok=False)
    notes.record_load(*key, {}, None, ok=True)
    notes.record_load(*key, {})
    for place in range(4):
        other = tuple("other" if place == i else value for i, value in enumerate(key))
        notes.record_load(other[0], other[1], other[2], other[3], {}, {"n": 3}, ok=True)
    assert [row.id for row in notes.measured_loads(*key)] == [good]
    assert len(notes.loads()) == 8
    assert len(notes.loads(device="Vulkan0", runtime_build="b10434")) == 6
    assert notes.loads(newest=3) == notes.loads()[-3:]
    assert notes.loads(newest=0) == ()


def test_a_load_is_finished_once(notes: History) -> None:
    number = notes.record_load("m", "s", "b", "d", {})
    notes.finish_load(number, None, ok=False)
    with pytest.raises(BadInput, match=f"no unfinished load {number}"):
        notes.finish_load(number, {"better": True}, ok=True)
    with pytest.raises(BadInput, match="no unfinished load 77"):
        notes.finish_load(77, None, ok=False)


def test_results_come_back_with_their_samples_in_order(notes: History) -> None:
    first = Outcome(
        model="q4",
        test="pp512",
        samples=(41.5, 40.25, 42.0),
        quant="Q4_K_M",
        model_key="abc",
        unit="t/s",
        run="r1",
        engine="llama-cpp-python 0.3.36",
        device="CUDA0",
        settings={"threads": 2},
        machine={"host": "x"},
        evidence={"noisy": False},
    )
    notes.record_result(first)
    notes.record_results(
        (Outcome(model="q4", test="tg128", samples=()), Outcome(model="q8", test="pp512", samples=({"kld": 0.01},)))
    )
    [row] = notes.results(model="q4", test="pp512")
    assert {name: getattr(row, name) for name in asdict(first)} == asdict(first)
    assert [r.model for r in notes.results(test="pp512")] == ["q4", "q8"]
    assert [r.test for r in notes.results(newest=2)] == ["tg128", "pp512"]
    assert [r.test for r in notes.results(model_key="abc", run="r1", kind="speed")] == ["pp512"]
    assert len(notes.results()) == 3


def test_results_of_one_command_are_kept_all_or_none(notes: History) -> None:
    good = Outcome(model="q4", test="pp512", samples=(1.0,))
    with pytest.raises(BadInput, match="plain JSON"):
        notes.record_results((good, Outcome(model="q4", test="tg128", samples=(object(),))))
    assert notes.results() == ()


def test_results_from_elsewhere_keep_their_time(notes: History) -> None:
    then = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    notes.record_results((Outcome(model="m", test="pp512", samples=(1.0,)),), created=then)
    assert notes.results()[0].created == then


def test_what_was_made_stands_once_until_it_is_removed(notes: History) -> None:
    first = notes.record_made("model", "scan:latest", "/store", {"digest": "a"})
    assert notes.record_made("model", "scan:latest", "/store", {"digest": "b"}) == first
    other = notes.record_made("model", "scan:latest", "/other/store")
    [one, two] = notes.made()
    assert (one.id, one.details, one.removed) == (first, {"digest": "b"}, None)
    assert two.id == other

    notes.mark_removed(first)
    assert [row.id for row in notes.made()] == [other]
    assert notes.made(removed=True)[0].removed is not None
    with pytest.raises(BadInput, match="nothing standing"):
        notes.mark_removed(first)
    again = notes.record_made("model", "scan:latest", "/store")
    assert again not in (first, other)


def test_made_things_are_of_known_kinds(notes: History) -> None:
    kind: Any = "rocket"
    with pytest.raises(BadInput, match="rocket"):
        notes.record_made(kind, "x", "y")
    notes.record_made("file", "template", "/home/x/ocr.jinja")
    notes.record_made("setting", "OLLAMA_KV_CACHE_TYPE", "/etc/systemd/x.conf", {"before": None})
    assert [row.name for row in notes.made("setting")] == ["OLLAMA_KV_CACHE_TYPE"]


def test_clear_forgets_what_was_learned_and_keeps_what_was_made(notes: History) -> None:
    notes.record_plan("m", {})
    notes.record_load("m", "s", "b", "d", {})
    notes.record_result(Outcome(model="m", test="pp512", samples=(1.0,)))
    notes.record_result(Outcome(model="m", test="tg128", samples=(1.0,)))
    notes.record_made("model", "m", "/store")
    assert notes.clear() == {"plans": 1, "loads": 1, "results": 2}
    assert notes.plans() == notes.loads() == notes.results() == ()
    assert len(notes.made()) == 1


def test_deleting_the_files_leaves_none_and_the_history_goes_on(notes: History) -> None:
    notes.record_plan("m", {})
    assert notes.path in notes.delete_files()
    assert list(notes.path.parent.iterdir()) == []
    assert notes.plans() == ()
    notes.record_plan("n", {})
    assert [p.model_key for p in notes.plans()] == ["n"]


def test_a_history_deleted_by_another_is_begun_anew(notes: History) -> None:
    notes.record_plan("m", {})
    with history.open(notes.path) as other:
        other.delete_files()
    assert notes.plans() == ()
    notes.record_plan("n", {})
    with history.open(notes.path) as other:
        assert [p.model_key for p in other.plans()] == ["n"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), b"bytes"])
def test_what_json_cannot_say_is_refused_and_nothing_is_kept(notes: History, value: Any) -> None:
    with pytest.raises(BadInput, match="plain JSON"):
        notes.record_plan("m", {"value": value})
    with pytest.raises(BadInput, match="plain JSON"):
        notes.record_result(Outcome(model="m", test="t", samples=(value,)))
    assert notes.plans() == notes.results() == ()


def test_a_fork_of_the_process_may_go_on_writing(notes: History) -> None:
    notes.record_plan("parent", {})
    child = os.fork()
    if child == 0:  # pragma: no cover - the parent cannot see it
        try:
            notes.record_plan("child", {})
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    notes.record_plan("parent", {})
    assert [p.model_key for p in notes.plans()] == ["parent", "child", "parent"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> History:
    return history.open(tmp_path_factory.mktemp("shared") / "history.sqlite3")


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=4), st.lists(JSON, max_size=4))
def test_any_json_comes_back_as_it_was(shared: History, values: dict[str, Any], samples: list[Any]) -> None:
    number = shared.record_result(
        Outcome(model="m", test="t", settings=values, machine=values, evidence=values, samples=tuple(samples))
    )
    row = shared.results()[-1]
    assert (row.id, row.settings, row.machine, row.evidence) == (number, values, values, values)
    assert list(row.samples) == samples


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_a_key_does_not_depend_on_the_order_of_its_values(values: dict[str, Any]) -> None:
    assert history.key_of(values) == history.key_of(dict(reversed(values.items())))
    assert history.key_of(values) != history.key_of({**values, "one more": 1})


def test_plans_are_forgotten_by_their_ids_alone(tmp_path: Path) -> None:
    with history.open(tmp_path / "history.sqlite3") as kept:
        first, second, third = (kept.record_plan("key", {"number": n}) for n in range(3))
        assert kept.forget_plans([]) == 0
        assert kept.forget_plans([first, third, 999]) == 2
        assert [row.id for row in kept.plans()] == [second]
