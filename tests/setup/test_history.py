"""The history shown, written out and taken in: every row comes back, and bad input leaves nothing behind."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenops import history
from qwenops.errors import BadInput
from qwenops.history import History, Outcome
from qwenops.history.portable import SCHEMA, from_line, to_line
from qwenops.setup.history_export import COLUMNS, export_lines, export_result
from qwenops.setup.history_import import import_result, rows_of
from scripts.parts.layout import Layout
from tests.support.cli import qwenops

WORDS = st.text(max_size=12)
VALUES = st.dictionaries(WORDS, st.none() | st.booleans() | st.integers() | WORDS | st.lists(WORDS), max_size=3)
PAGE = {"page": "p1", "kind": "clean", "cer": 0.25, "wer": 0.5, "tokens": 40, "truth": 'a, "b"\nc', "read": "日本"}


@pytest.fixture
def filled(qwenops_home: Path) -> History:
    """A history with a row of everything."""
    kept = history.open()
    kept.record_plan("key", {"choice": {"num_ctx": 8192}})
    load = kept.record_load(
        "key", "settings", "b10434", "CUDA0", {"total_device_bytes": 100, "model": {"file": "m.gguf"}}
    )
    kept.finish_load(load, {"devices": [{"name": "CUDA0", "weights_bytes": 90, "kv_bytes": 9}]}, ok=True)
    kept.record_load("key", "settings", "b10434", "CUDA0", {})
    kept.record_results(
        (
            Outcome(kind="speed", model="Qwen", quant="Q4_K_M", test="tg128", unit="t/s", samples=(41.0, 40.0, 43.0)),
            Outcome(kind="quality", model="Qwen", quant="Q6_K", test="kld c512", unit="nats", samples=(0.01, 0.03)),
            Outcome(kind="reading", model="Qwen", quant="Q6_K", test="ocr pages", unit="page", samples=(PAGE,) * 2),
            Outcome(kind="vision", model="Qwen", test="vision count", samples=({"right": True}, {"right": False})),
            Outcome(kind="sight", model="Qwen", test="sight", samples=({"ok": True},)),
            Outcome(kind="speed", model="Empty", test="pp512", samples=()),
        )
    )
    return kept


def told(kept: History) -> list[dict[str, Any]]:
    """Every row without its number."""
    return [{k: v for k, v in to_line(row).items() if k != "id"} for row in kept.everything()]


def test_what_is_written_out_comes_back_to_the_letter(filled: History, tmp_path: Path) -> None:
    before, file = told(filled), tmp_path / "rows.jsonl"
    file.write_text("".join(export_lines("jsonl")))
    filled.delete_files()
    assert import_result([file]).data["new"] == len(before) == 9
    assert told(history.open()) == before
    assert import_result([file]).data == {**import_result([file]).data, "new": 0, "known": 9}
    assert told(history.open()) == before


def test_a_row_twice_in_one_file_is_taken_in_once(filled: History, tmp_path: Path) -> None:
    line = next(iter(export_lines("jsonl", ("results",))))
    filled.delete_files()
    (tmp_path / "twice.jsonl").write_text(line + "\n\n" + line)
    result = import_result([tmp_path / "twice.jsonl"])
    assert (result.data["new"], result.data["known"]) == (1, 1)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False) | VALUES, max_size=4),
    st.lists(WORDS, min_size=4, max_size=4),
    VALUES,
    st.datetimes(timezones=st.just(timezone.utc), min_value=datetime(2000, 1, 1)),
)
def test_any_row_survives_its_line(
    samples: list[Any], words: list[str], values: dict[str, Any], when: datetime
) -> None:
    model, test, run, device = words
    row = history.ResultRow(
        id=0, created=when, model=model, test=test, run=run, device=device, samples=tuple(samples), settings=values
    )
    assert from_line(json.loads(json.dumps(to_line(row)))) == row


def test_the_csv_has_one_header_and_a_cell_for_every_column(filled: History) -> None:
    rows = list(csv.DictReader(io.StringIO("".join(export_lines("csv")))))
    assert [tuple(row) for row in rows] == [COLUMNS] * 9
    assert [row["table"] for row in rows] == ["plans", "loads", "loads"] + ["results"] * 6
    load, unfinished, speed, _, reading, vision = rows[1:7]
    assert (load["predicted_bytes"], load["measured_bytes"], load["ok"]) == ("100", "99", "true")
    assert (unfinished["ok"], unfinished["measured_bytes"]) == ("", "")
    assert (speed["count"], speed["median"], speed["unit"]) == ("3", "41.0", "t/s")
    assert (reading["mean"], reading["unit"]) == ("0.25", "CER")
    assert json.loads(reading["samples"]) == [PAGE, PAGE]
    assert (vision["mean"], vision["unit"]) == ("0.5", "share right")


def test_a_long_history_is_written_page_by_page(qwenops_home: Path) -> None:
    with history.open() as kept:
        kept.record_results(Outcome(model="m", test=f"pp{n}", samples=(n,)) for n in range(1001))
        lines = export_lines("jsonl")
        first = next(lines)
        kept.record_result(Outcome(model="later", test="pp1", samples=(1,)))
        rest = list(lines)
    assert len(rest) == 1001, "the row that came meanwhile is there too, none is missing or twice"
    assert len({json.loads(line)["id"] for line in (first, *rest)}) == 1002


def test_a_file_is_there_whole_or_not_at_all(filled: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out" / "h.jsonl"
    target.parent.mkdir()
    assert export_result(target, None).data["rows"] == 9
    before = target.read_bytes()
    with history.open() as kept, kept._file.writing() as db:
        db.execute(
            "insert into results (created, model, test, settings, machine, samples) values ('x','','','{','','')"
        )
    with pytest.raises(Exception, match="cannot be read"):
        export_result(target, None)
    assert target.read_bytes() == before
    assert list(target.parent.iterdir()) == [target]


def test_what_is_no_export_is_not_written_over(filled: History, tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear Ann")
    with pytest.raises(BadInput, match="is there and is no export"):
        export_result(letter, "csv")
    with pytest.raises(BadInput, match="is a folder"):
        export_result(tmp_path, None)
    assert letter.read_text() == "Dear Ann"
    for name in ("h.csv", "h.jsonl"):
        first = export_result(tmp_path / name, None)
        assert export_result(tmp_path / name, None).data == first.data


GOOD = {
    "schema": SCHEMA,
    "table": "results",
    "created": "2026-12-01T09:30:00+00:00",
    **dict.fromkeys(("model", "test", "quant", "model_key", "unit", "run", "engine", "device"), "x"),
    "kind": "speed",
    **{name: {} for name in ("settings", "machine", "evidence")},
    "samples": [1.0],
}
LLAMA = {
    "build_commit": "x",
    "model_filename": "m.gguf",
    "n_prompt": 1,
    "n_gen": 0,
    "test_time": "2026-01-01T00:00:00Z",
}


def but(**change: Any) -> bytes:
    return json.dumps({**GOOD, **change}).encode()


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (json.dumps(GOOD).encode()[:-20], "line 2 is cut off or no JSON"),
        (b'{"a": NaN}', "NaN is no figure"),
        (b'{"hello": 1}', "line 2 is neither a row of a history nor one of llama-bench"),
        (b"17", "line 2 is neither"),
        (b"[" * 100_000, "line 2 is cut off or no JSON"),
        (b"{" + b'"a":{' * 50_000, "line 2 is cut off or no JSON"),
        ("Größe".encode("latin-1"), "line 2 is not UTF-8"),
        (b"\xff\xfe{", "line 2 is not UTF-8"),
        (but(schema="qwenops.history-row/2"), "line 2: its schema is 'qwenops.history-row/2'"),
        (but(table="made"), "its table is 'made'"),
        (but(kind="rocket"), "its kind is 'rocket'"),
        (but(samples={"a": 1}), "its samples is not a list"),
        (but(model=None), "its model is not text"),
        (but(created="2026-12-01T09:30:00"), "is not a time with its zone"),
        (but(created="soon"), "is not a time with its zone"),
        (but(model="\ud800"), "line 2 is cut off or no JSON: .*surrogates"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "evidence"}).encode(), "its evidence is missing"),
        (json.dumps(LLAMA).encode(), "line 2: its avg_ts has None"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value[:40],
)
def test_one_bad_line_is_named_and_nothing_is_taken_in(tmp_path: Path, second: bytes, said: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(json.dumps(GOOD).encode() + b"\n" + second + b"\n")
    with pytest.raises(BadInput, match=said):
        import_result([file])
    assert not history.open().path.exists()


def test_a_bad_second_file_keeps_the_first_one_out_too(tmp_path: Path) -> None:
    (tmp_path / "good.jsonl").write_bytes(but())
    (tmp_path / "bad.jsonl").write_bytes(b"{}")
    with pytest.raises(BadInput, match=r"bad\.jsonl line 1"):
        import_result([tmp_path / "good.jsonl", tmp_path / "bad.jsonl"])
    assert history.open().results() == ()


@pytest.mark.parametrize("content", [b"", b"\n \n", b"[]", b"\xef\xbb\xbf"])
def test_a_file_without_rows_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "empty.jsonl").write_bytes(content)
    with pytest.raises(BadInput, match="no rows in"):
        import_result([tmp_path / "empty.jsonl"])


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "huge.jsonl"
    with file.open("wb") as opened:
        opened.truncate(300 * 1024**2)
    with pytest.raises(BadInput, match="larger than 256 MiB"):
        import_result([file])


def test_the_mark_at_the_beginning_and_other_line_ends_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "windows.jsonl").write_bytes(b"\xef\xbb\xbf" + but() + b"\r\n" + but(test="y") + b"\r\n")
    assert import_result([tmp_path / "windows.jsonl"]).data["new"] == 2


@pytest.mark.server
@pytest.mark.slow
def test_the_real_llama_bench_is_taken_in_by_both_its_forms(parts: Layout, smollm: Path, tmp_path: Path) -> None:
    tool = parts.reference("llama-bench")
    outputs = {}
    for form in ("json", "jsonl"):
        done = subprocess.run(
            [tool, "-m", smollm, "-p", "8", "-n", "2", "-d", "0,4", "-r", "2", "-o", form],
            capture_output=True,
            text=True,
            timeout=240,
            check=True,
        )
        outputs[form] = tmp_path / f"bench.{form}"
        outputs[form].write_text(done.stdout)
    for form, file in outputs.items():
        rows = list(rows_of(file, {"host": {}}))
        assert [row.test for row in rows] == ["pp8", "tg2", "pp8 @ d4", "tg2 @ d4"], form
        printed = (
            json.loads(file.read_text()) if form == "json" else [json.loads(x) for x in file.read_text().splitlines()]
        )
        assert [list(row.samples) for row in rows] == [one["samples_ts"] for one in printed]
        assert {row.quant for row in rows} == {"Q4_1"}
        assert len({row.model_key for row in rows}) == 1
        assert rows[0].model_key, "the file is still there, so the exact model is known"
    answer = qwenops("history", "import", outputs["jsonl"], outputs["json"], "--json")
    assert answer.data["new"] == 8


def test_the_command_keeps_its_old_form(filled: History) -> None:
    bare, shown = qwenops("history", "--json"), qwenops("history", "show", "--json")
    assert bare.code == shown.code == 0
    assert bare.data == shown.data
    assert len(bare.data["loads"]) == 2
    assert [row["kind"] for row in bare.data["results"]] == ["speed", "vision", "reading", "quality", "speed"]
    assert [row["mean"] for row in bare.data["results"]] == [
        None,
        0.5,
        0.25,
        pytest.approx(0.02),
        pytest.approx(124 / 3),
    ]
    text = qwenops("history", "--limit", "9").out
    for word in ("Loads", "tg128", "t/s", "nats", "CER", "share right", "41.00"):
        assert word in text


@pytest.mark.parametrize(
    ("asked", "tests"),
    [
        (("--kind", "quality"), ["kld c512"]),
        (("--kind", "sight"), ["sight"]),
        (("--model", "q4_k"), ["tg128"]),
        (("--model", "Qwen Q6", "--kind", "reading"), ["ocr pages"]),
        (("--test", "tg128"), ["tg128"]),
        (("--test", "nothing"), []),
        (("--limit", "1"), ["pp512"]),
    ],
)
def test_rows_are_picked_by_kind_model_and_test(filled: History, asked: tuple[str, ...], tests: list[str]) -> None:
    data = qwenops("history", "show", *asked, "--json").data
    assert [row["test"] for row in data["results"]] == tests


def test_clearing_asks_first_and_says_what_went(filled: History) -> None:
    refused = qwenops("history", "clear")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert qwenops("history", "clear", "--dry-run").out.startswith("Would be forgotten: 1 plans, 2 loads, 6 results")
    assert len(history.open().results()) == 6
    assert qwenops("history", "clear", "--yes", "--json").data["forgotten"] == {"plans": 1, "loads": 2, "results": 6}
    assert history.open().results() == ()
    assert qwenops("history", "clear").code == 0, "nothing to ask where nothing is there"


def test_rows_flow_through_pipes(filled: History) -> None:
    lines = qwenops("history", "export", "--table", "results").out
    filled.delete_files()
    taken = subprocess.run(
        [sys.executable, "-m", "qwenops", "history", "import", "-", "--json"],
        input=lines,
        capture_output=True,
        text=True,
        env=os.environ,
        check=True,
    )
    assert json.loads(taken.stdout)["new"] == 6
