"""What is finished stays finished: journals and records survive a cut, and damage is seen."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from qwenops.bench.quality.base import Base, most_bytes
from qwenops.bench.quality.divergence import Kept, Scores, keep
from qwenops.bench.quality.journal import Journal
from qwenops.errors import BadInput


def _chunk(seed: int, rows: int = 6, vocabulary: int = 101) -> tuple[Kept, Scores]:
    logits = np.random.default_rng(seed).normal(0, 5, (rows, vocabulary)).astype(np.float32)
    with ThreadPoolExecutor(1) as pool:
        return keep(logits, np.zeros(rows, np.int32), pool, 1)


def _filled(folder: Path, chunks: int) -> Base:
    base = Base(folder)
    base.describe({"model": "m"}, np.arange(50, dtype=np.int32))
    for chunk in range(chunks):
        base.add(chunk, *_chunk(chunk), 0.5)
    return base


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    _filled(tmp_path, 3)
    again = Base(tmp_path)
    assert again.missing(5) == [3, 4]
    assert again.tokens().tolist() == list(range(50))
    for chunk in range(3):
        kept, scores = _chunk(chunk)
        for one, other in zip(astuple(kept), astuple(again.kept(chunk)), strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(again.scores(chunk).nll, scores.nll)
        assert again.seconds(chunk) == 0.5


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_record_that_was_cut_off_is_read_again_and_the_rest_is_kept(tmp_path: Path, cut: int) -> None:
    _filled(tmp_path, 3)
    rows = tmp_path / "rows"
    rows.write_bytes(rows.read_bytes()[:-cut])
    base = Base(tmp_path)
    assert base.missing(3) == [2]
    base.add(2, *_chunk(2), 0.5)
    assert Base(tmp_path).missing(3) == []


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    _filled(tmp_path, 2)
    rows = tmp_path / "rows"
    raw = bytearray(rows.read_bytes())
    raw[10] ^= 1
    rows.write_bytes(raw)
    base = Base(tmp_path)
    assert base.missing(2) == [0]
    with pytest.raises(BadInput, match="damaged"):
        base.kept(0)


@pytest.mark.parametrize("cut", range(1, 40, 7))
def test_a_line_that_was_cut_off_loses_its_own_chunk_alone(tmp_path: Path, cut: int) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    for chunk in range(3):
        journal.append(chunk, {"kld": np.full(4, chunk, np.float32)}, seconds=1.0)
    journal.path.write_bytes(journal.path.read_bytes()[:-cut])
    left = 3 if cut == 1 else 2
    assert sorted(journal.entries()) == list(range(left))
    journal.append(7, {"same": np.array([True, False])}, seconds=2.0)
    found = journal.entries()
    assert sorted(found) == [*range(left), 7]
    assert found[7]["arrays"]["same"].tolist() == [True, False]
    assert found[1]["arrays"]["kld"].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("line", [b"[]", b"null", b'{"chunk": 1}', b'{"chunk": "x", "arrays": {}}', b"\xff\xfe"])
def test_a_line_of_something_else_is_passed_over(tmp_path: Path, line: bytes) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.path.write_bytes(line + b"\n")
    assert journal.entries() == {}


def test_a_record_is_never_longer_than_was_said_before(tmp_path: Path) -> None:
    flat = np.zeros((6, 101), np.float32)
    with ThreadPoolExecutor(1) as pool:
        kept, scores = keep(flat, np.zeros(6, np.int32), pool, 1)
    Base(tmp_path).describe({}, np.zeros(1, np.int32))
    Base(tmp_path).add(0, kept, scores, 1.0)
    assert (tmp_path / "rows").stat().st_size == most_bytes(101, 6)
