"""The benchmark on a real model through the real library, and on what cannot be loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwenops.bench.speed import measure, speed_tests
from qwenops.bench.types import SpeedSettings
from qwenops.errors import BadInput
from qwenops.model.read import read_model
from tests.support.cli import qwenops
from tests.support.shapes import TEXT, write_text

pytestmark = pytest.mark.library


def test_every_test_gives_as_many_samples_as_repetitions(smollm: Path) -> None:
    heard: list[str] = []
    one = measure(
        read_model(smollm),
        speed_tests([16], [4], [0, 8]),
        SpeedSettings(repetitions=2, threads=2),
        on_sample=lambda quant, test, speed: heard.append(test),
    )
    assert sorted(s.test.name for s in one.speeds) == ["pp16", "pp16 @ d8", "tg4", "tg4 @ d8"]
    assert all(len(s.samples) == 2 and min(s.samples) > 0 for s in one.speeds)
    assert len(heard) == 8
    assert one.load_seconds > 0
    assert len(one.first_token_seconds) == 2
    assert one.peak_host_bytes > 64 * 1024**2
    assert one.engine["threads"] == 2


def test_a_file_that_the_library_refuses_is_named(tmp_path: Path) -> None:
    ghost = write_text(tmp_path / "made-up-architecture.gguf", TEXT["qwen3-0.6b"])
    data = ghost.read_bytes().replace(b"general.architecture", b"general.architekture", 1)
    ghost.write_bytes(data[:4096])
    with pytest.raises(BadInput):
        measure(read_model(ghost), speed_tests([16], [0], [0]), SpeedSettings(repetitions=1))


@pytest.mark.parametrize("part", [["speed"], []])
def test_the_command_prints_the_promised_json_and_keeps_the_rows(smollm: Path, part: list[str]) -> None:
    answer = qwenops("bench", *part, smollm, "--prompt", 16, "--generate", 4, "--repetitions", 2, "--json")
    assert answer.code == 0, answer.err
    data = answer.data
    assert data["schema"] == "qwenops.bench/1"
    assert {r["test"] for r in data["results"]} == {"pp16", "tg4"}
    assert set(data["results"][0]["tokens_per_second"]) >= {"mean", "sd", "median", "samples"}
    kept = qwenops("history", "--json")
    assert {r["test"] for r in kept.data["results"]} == {"pp16", "tg4"}


def test_a_word_near_a_part_is_a_slip_and_any_other_is_a_model() -> None:
    assert "Did you mean 'quality'?" in qwenops("bench", "qualty").err
    assert "no such file: model.gguf" in qwenops("bench", "model.gguf").err
    assert "called 'speed'" in qwenops("bench", "./speed").err
