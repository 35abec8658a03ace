"""The command: what fails is a marked cell, what was finished is found again, what was stopped goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from qwenops.bench.quality.text import BUILT_IN
from scripts.parts.layout import Layout
from tests.support.cli import qwenops
from tests.support.tiny import TinyModel

pytestmark = pytest.mark.library

SMALL = ("--ctx", 32, "--chunks", 6, "--batch", 64, "--threads", 1)


@pytest.fixture
def reference(tiny_qwen35: TinyModel) -> Path:
    return tiny_qwen35.model


def _qwenops_home() -> Path:
    return Path(os.environ["QWENOPS_HOME"])


def test_a_bad_cell_is_marked_with_its_reason_and_the_others_go_on(
    tmp_path: Path, reference: Path, parts: Layout
) -> None:
    cut = tmp_path / "cut-Q4_0.gguf"
    cut.write_bytes(reference.read_bytes()[:-100_000])
    noise = tmp_path / "noise.gguf"
    noise.write_bytes(b"GGUF" + os.urandom(5000))
    zeros = tmp_path / "nan.gguf"
    zeros.write_bytes(reference.read_bytes()[:-2_000_000] + b"\xff" * 2_000_000)
    told = qwenops(
        *("bench", "quality", "--reference", reference, cut, noise, parts.smollm, zeros, reference, *SMALL, "--json")
    )
    assert told.code == 1, told.err
    rows = told.data["results"]
    assert [row["status"] for row in rows] == ["failed", "failed", "failed", "failed", "ok"]
    assert "cut" in rows[0]["error"]
    assert "it is another model: architecture llama, the reference's qwen35" in rows[2]["error"]
    assert "no number" in rows[3]["error"]
    assert [row["model"] for row in rows] == [str(p) for p in (cut, noise, parts.smollm, zeros, reference)]
    assert rows[4]["kld_mean"] == pytest.approx(0, abs=1e-4)
    assert rows[4]["same_top"] == 1
    assert rows[4]["tokens"] == 6 * 32
    shown = qwenops("bench", "quality", "--reference", reference, cut, parts.smollm, *SMALL)
    assert shown.code == 1
    assert "another model" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 110


def test_kv_types_are_variants_of_the_reference_and_everything_is_used_again(reference: Path) -> None:
    asked = ("bench", "quality", "--reference", reference, "--kv-type", "f16", "--kv-type", "q8_0", *SMALL, "--json")
    first = qwenops(*asked)
    assert first.code == 0, first.err
    rows = first.data["results"]
    assert [(row["kv_type"], row["kept_chunks"]) for row in rows] == [("f16", 0), ("q8_0", 0)]
    assert rows[0]["kld_mean"] == pytest.approx(0, abs=1e-5)
    assert rows[1]["kld_mean"] == pytest.approx(0, abs=0.01)
    assert rows[1]["ppl"] != rows[0]["ppl"]
    assert "at most" in first.err
    again = qwenops(*asked)
    assert [(row["kv_type"], row["kept_chunks"]) for row in again.data["results"]] == [("f16", 6), ("q8_0", 6)]
    assert again.data["results"][1]["kld_mean"] == rows[1]["kld_mean"]
    assert "at most" not in again.err
    more = qwenops(*asked[:-1], "--chunks", 8, "--json")
    assert [row["kept_chunks"] for row in more.data["results"]] == [6, 6]
    kept = qwenops("history", "--json").data["results"]
    assert {(row["test"], row["unit"]) for row in kept} == {
        ("ppl c32", "perplexity"),
        ("kld c32", "nats"),
        ("same-top c32", "share"),
    }
    assert len(kept) == 2 * (1 + 2 * 3)  # the reference and two cells, read twice
    assert len(kept[-1]["samples"]) == 6
    assert qwenops("history").code == 0


def test_what_was_kept_is_removed_by_gc_and_not_while_it_is_read(reference: Path) -> None:
    assert qwenops("bench", "quality", "--reference", reference, *SMALL).code == 0
    (kept,) = (_qwenops_home() / "cache/quality").iterdir()
    assert not [t for t in qwenops("gc", "--dry-run", "--json").data["things"] if t["kind"] == "quality"]
    with FileLock(kept / ".child-lock"):
        qwenops("gc", "--older-than", 0, "--yes")
        assert kept.exists()
    told = qwenops("gc", "--older-than", 0, "--yes", "--json")
    (thing,) = (t for t in told.data["things"] if t["kind"] == "quality")
    assert (thing["taken"], thing["path"]) == (True, str(kept))
    assert thing["frees_bytes"] > 10_000
    assert not kept.exists()


def test_one_word_in_an_unknown_encoding_a_short_text_and_a_lost_file_are_said_before_anything_is_read(
    tmp_path: Path, reference: Path
) -> None:
    short = tmp_path / "short.txt"
    short.write_text("a few words", encoding="utf-8")
    latin = tmp_path / "latin.txt"
    latin.write_bytes("Grüße aus Köln".encode("latin-1"))
    for more, code, said in (
        (("--text", short), 2, "two windows of 32 are the least"),
        (("--text", latin), 2, "not UTF-8"),
        ((tmp_path / "none.gguf",), 2, "none.gguf"),
        (("hf:maker/m-GGUF:Q4_0",), 2, "is not here"),
    ):
        told = qwenops("bench", "quality", "--reference", reference, *more, *SMALL)
        assert (told.code, said in told.err) == (code, True), told.err


def test_a_run_that_is_killed_goes_on_and_one_that_is_stopped_shows_what_it_has(tmp_path: Path, smollm: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(BUILT_IN.read_text(encoding="utf-8")[:6000], encoding="utf-8")
    asked = ["bench", "quality", "--reference", smollm, "--kv-type", "f16", "--kv-type", "q8_0", "--text", text]
    asked += ["--ctx", 32, "--chunks", 20, "--batch", 32, "--threads", 2, "--json"]
    command = [sys.executable, "-m", "qwenops", *map(str, asked)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _wait_for_lines("chunks.jsonl", 3)
    child.kill()
    child.wait()
    for stream in (child.stdout, child.stderr):
        assert stream is not None
        stream.close()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _wait_for_lines("variants/*.jsonl", 2)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    told = json.loads(out)
    assert told["reference"]["kept_chunks"] >= 3
    assert told["reference"]["chunks"] == 20
    assert len(told["results"]) in (1, 2)
    assert told["results"][-1]["status"] in ("stopped", "ok")
    assert any("goes on" in note for note in told["notes"])
    last = qwenops(*asked)
    assert last.code == 0, last.err
    assert [row["status"] for row in last.data["results"]] == ["ok", "ok"]
    assert last.data["results"][0]["kept_chunks"] >= 2


def _lines(pattern: str) -> int:
    return sum(f.read_bytes().count(b"\n") for f in (_qwenops_home() / "cache/quality").glob(f"*/{pattern}"))


def _wait_for_lines(pattern: str, count: int) -> None:
    end = time.monotonic() + 120
    while _lines(pattern) < count:
        assert time.monotonic() < end, f"no {count} lines in {pattern}"
        time.sleep(0.02)
