"""qwenops models as a user calls it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.cli import qwenops


def test_a_larger_card_never_gets_a_smaller_quant_or_context() -> None:
    sizes = ("6GiB", "8GiB", "12GiB", "24GiB")
    ladder = ["Q2_K", "Q3_K_M", "IQ4_XS", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"]
    lists = [qwenops("models", "--gpu", size, "--json").data["models"] for size in sizes]
    for rows in zip(*lists, strict=True):
        ranks = [(ladder.index(m["fits"]["quant"]), m["fits"]["num_ctx"]) if m["fits"] else (-1, 0) for m in rows]
        assert ranks == sorted(ranks, key=lambda r: r[0]), rows[0]["name"]
        for (quant, num_ctx), (larger, more) in pairwise(ranks):
            assert larger > quant or more >= num_ctx, rows[0]["name"]


def test_what_is_listed_fits_by_need(tmp_path: Path) -> None:
    (row,) = qwenops("models", "qwen3-vl:8b-instruct", "--gpu", "12GiB", "--json").data["models"]
    assert row["fits"]["file_bytes"] < 12 * 2**30
    assert row["fits"]["num_ctx"] >= 8192


def test_one_model_alone_is_shown_in_full() -> None:
    answer = qwenops("models", "qwen3-vl", "8b", "thinking", "--gpu", "none")
    assert answer.code == 0, answer.err
    assert "hf:Qwen/Qwen3-VL-8B-Thinking-GGUF" in answer.out
    assert "(not seen)" in answer.out
    assert "config" in answer.out  # a source


def test_a_name_that_others_begin_with_is_shown_alone() -> None:
    answer = qwenops("models", "qwen3-vl:8b", "--gpu", "none", "--json")
    assert [m["id"] for m in answer.data["models"]] == ["qwen3-vl-8b-instruct"]


def test_the_list_fits_a_terminal_of_80_columns() -> None:
    answer = qwenops("models", "--gpu", "12GiB", env={"COLUMNS": "80"})
    table = answer.out.splitlines()[:-2]
    assert max(len(line.rstrip()) for line in table) <= 80


@pytest.mark.parametrize(
    ("query", "near"), [("qwen3-vl:9b", "qwenops models qwen3-vl:8b"), ("zzz", "qwenops models  ")]
)
def test_a_query_that_matches_nothing_is_told_what_would(query: str, near: str) -> None:
    answer = qwenops("models", query)
    assert answer.code == 2
    assert near in answer.err


def test_a_users_own_entry_is_listed_and_marked(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "catalog.toml").write_text(
        '[models.mine]\ntitle = "Mine"\n[[models.mine.repos]]\nrepo = "me/Mine-GGUF"\nmodel = "Mine-{quant}.gguf"\n'
    )
    answer = qwenops("models", "mine", env={"QWENOPS_HOME": str(tmp_path)})
    assert answer.code == 0, answer.err
    assert "mine+" in answer.out
    assert "not known" in answer.out
