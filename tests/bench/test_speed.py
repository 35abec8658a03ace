"""The benchmark on real models through the real library, and on what cannot be loaded, dies or is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from qwenops.bench.engines.library import Library
from qwenops.bench.speed import measure
from qwenops.bench.types import SpeedSettings, SpeedTest, Variant
from qwenops.errors import BadInput
from qwenops.history import History
from qwenops.model.read import read_model
from tests.support.children import children_named
from tests.support.cli import Answer, qwenops
from tests.support.shapes import TEXT, write_text
from tests.support.tiny import TinyModel

pytestmark = pytest.mark.library

QUICK = ("--prompt", 16, "--generate", 4, "--threads", 2)
PROMPT = ("--prompt", 16, "--generate", 0, "--threads", 2)


def bench(*args: object, **options: Any) -> Answer:
    return qwenops("bench", "speed", *args, "--json", **options)


def history(home: Path) -> Any:
    with History(home / "data" / "history.sqlite3") as kept:
        return kept.results(kind="speed")


def test_every_test_gives_as_many_samples_as_repetitions(smollm: Path) -> None:
    tests = [SpeedTest(16, 0), SpeedTest(0, 4), SpeedTest(16, 0, 8), SpeedTest(0, 4, 8)]
    found = measure(read_model(smollm), tests, SpeedSettings(threads=2), repetitions=2)
    assert sorted(found) == ["pp16", "pp16 @ d8", "tg4", "tg4 @ d8"]
    assert all(len(samples) == 2 and min(samples) > 0 for samples in found.values())


def test_a_file_that_the_library_refuses_is_named(tmp_path: Path) -> None:
    ghost = write_text(tmp_path / "made-up-architecture.gguf", TEXT["qwen3-0.6b"])
    data = ghost.read_bytes().replace(b"general.architecture", b"general.architekture", 1)
    ghost.write_bytes(data[:4096])
    with pytest.raises(BadInput):
        measure(read_model(ghost), [SpeedTest(16, 0)], SpeedSettings(), repetitions=1)


@pytest.mark.parametrize("part", [["speed"], []])
def test_the_command_prints_the_promised_json_and_keeps_the_rows(
    smollm: Path, part: list[str], qwenops_home: Path
) -> None:
    answer = qwenops("bench", *part, smollm, *QUICK, "--repetitions", 2, "--json")
    assert answer.code == 0, answer.err
    data = answer.data
    assert data["schema"] == "qwenops.bench/1"
    assert {r["test"]: r["unit"] for r in data["results"]} == {"pp16": "t/s", "tg4": "t/s", "first-token pp16": "s"}
    assert set(data["results"][0]["tokens_per_second"]) >= {"mean", "sd", "median", "samples"}
    memory = data["models"][0]["memory"]
    held = memory["peak_host_bytes"] - memory["idle_host_bytes"]
    assert held == pytest.approx(memory["planned"]["host"]["total_bytes"], rel=0.3)
    assert memory["peak_device_bytes"] is None or memory["peak_device_bytes"]
    rows = history(qwenops_home)
    assert {r.test for r in rows} == {"pp16", "tg4", "first-token pp16"}
    for row in rows:
        assert row.run == data["run"]
        assert row.model_key == data["results"][0]["model_key"]
        assert (row.device, row.engine.split(" ")[0], len(row.samples)) == ("CPU", "llama-cpp-python", 2)
        assert row.evidence["memory"]["peak_host_bytes"] > 64 * 1024**2
        assert row.evidence["energy"] is None or row.evidence["energy"]["joules"] >= 0
        assert isinstance(row.evidence["busy"], list)
    assert not list((qwenops_home / "data" / "bench").glob("*"))


def test_settings_given_several_times_are_variants_and_are_compared(smollm: Path) -> None:
    data = bench(smollm, *PROMPT, "--ubatch", 8, "--ubatch", 16, "--repetitions", 8).data
    assert [m["label"] for m in data["models"]] == ["Q4_1 ub8", "Q4_1 ub16"]
    (one,) = data["comparisons"]
    assert (one["label"], one["base"], one["test"], one["rounds"]) == ("Q4_1 ub16", "Q4_1 ub8", "pp16", 8)
    assert data["order"]["mode"] == "side by side"


def test_a_corrupt_variant_is_a_failed_cell_and_the_others_go_on(smollm: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole-Q4_1.gguf", tmp_path / "cut-Q4_1.gguf"
    whole.symlink_to(smollm)
    cut.write_bytes(smollm.read_bytes()[: 40 * 1024**2])
    nothing = tmp_path / "nothing-Q4_1.gguf"
    nothing.write_bytes(b"GGUF")
    answer = bench(whole, cut, nothing, *QUICK, "--repetitions", 2)
    assert answer.code == 1
    read = {one["file"] for one in answer.data["unread"]}
    bad = [r for r in answer.data["results"] if r["status"] == "failed"]
    assert read | {r["file"] for r in bad} == {str(cut), str(nothing)}
    assert all(r["reason"] for r in bad)
    assert [r["test"] for r in answer.data["results"] if r["file"] == str(whole)]
    assert all(len(r["value"]["samples"]) == 2 for r in answer.data["results"] if r["file"] == str(whole))


def test_a_child_that_is_killed_fails_its_cell_and_no_other(smollm: Path) -> None:
    engine, variant = Library(), Variant("v", SpeedSettings(threads=2), read_model(smollm))
    tests = [SpeedTest(16, 0), SpeedTest(0, 4)]
    from qwenops.bench.matrix import Matrix, Turn
    from qwenops.bench.order import Effort
    from qwenops.bench.watch import Watch

    killed = []

    def kill_once(turn: Turn) -> None:
        if not killed and turn.round_ == 1:
            for child in children_named("qwenops.worker"):
                child.kill()
                killed.append(child.pid)

    with Watch([]) as watch:
        matrix = Matrix([variant], tests, engine, Effort(4), "side by side", 0, watch, on_turn=kill_once)
        matrix.run()
    assert killed
    failed = [cell for cell in matrix.cells.values() if cell.status == "failed"]
    assert len(failed) == 1
    assert "SIGKILL" in failed[0].reason
    assert "out of memory?" in failed[0].reason
    (other,) = [cell for cell in matrix.cells.values() if cell.status == "ok"]
    assert len(other.samples) == 4


def start_long_run(smollm: Path, home: Path) -> tuple[subprocess.Popen[str], Path]:
    """A run that would take hours, after its first rounds; and its journal."""
    run = subprocess.Popen(
        [sys.executable, "-m", "qwenops", "bench", "speed", str(smollm), *map(str, QUICK), "--repetitions", "1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(600):
        found = list((home / "data" / "bench").glob("*.jsonl"))
        if found and len(found[0].read_text().splitlines()) > 6:
            return run, found[0]
        time.sleep(0.1)
    raise AssertionError(run.communicate())


def test_ctrl_c_keeps_what_is_done_and_resume_goes_on(smollm: Path, qwenops_home: Path) -> None:
    run, journal = start_long_run(smollm, qwenops_home)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert "pp16" in out
    assert f"qwenops bench speed --resume {journal.stem}" in err
    kept = {row.test: len(row.samples) for row in history(qwenops_home)}
    assert kept["pp16"] >= 2
    more = bench("--resume", "last", "--repetitions", kept["pp16"] + 2)
    assert more.code == 0, more.err
    assert more.data["run"] == journal.stem
    samples = {r["test"]: len(r["value"]["samples"]) for r in more.data["results"]}
    assert samples["pp16"] == samples["tg4"] == kept["pp16"] + 2
    assert not journal.exists()
    assert "no run last waits" in qwenops("bench", "speed", "--resume", "last").err


def test_a_run_that_was_killed_loses_no_finished_round(smollm: Path, qwenops_home: Path) -> None:
    run, journal = start_long_run(smollm, qwenops_home)
    os.kill(run.pid, signal.SIGKILL)
    run.communicate(timeout=60)
    lines = len(journal.read_text().splitlines()) - 1
    answer = bench("--resume", journal.stem, "--repetitions", 5)
    assert answer.code == 0, answer.err
    assert sum(len(r["value"]["samples"]) for r in answer.data["results"] if r["unit"] == "t/s") == max(10, lines)


def test_a_run_beside_an_earlier_one(smollm: Path, tmp_path: Path) -> None:
    first = bench(smollm, *PROMPT, "--repetitions", 6)
    file = tmp_path / "before.json"

    def far_off(better: bool) -> None:
        text = first.out
        for row in first.data["results"]:
            for value in row["value"]["samples"]:
                text = text.replace(
                    repr(value), repr(value * 1000 if better is (row["unit"] == "t/s") else value / 1000)
                )
        file.write_text(text)

    for baseline in ("last", first.data["run"]):
        answer = bench(smollm, *PROMPT, "--repetitions", 2, "--compare", baseline)
        assert answer.code == 0, answer.err
        beside = answer.data["baseline"]["comparisons"]
        assert {(one["test"], one["verdict"]) for one in beside} == {
            ("pp16", "too few rounds"),
            ("first-token pp16", "too few rounds"),
        }
        first_run = answer.data["baseline"]["run"]
        assert first_run if baseline == "last" else first_run == baseline
    far_off(better=False)
    assert bench(smollm, *PROMPT, "--repetitions", 5, "--compare", file).code == 0
    far_off(better=True)
    worse = bench(smollm, *PROMPT, "--repetitions", 5, "--compare", file)
    assert worse.code == 1
    assert all(one["regression"] for one in worse.data["baseline"]["comparisons"])
    other = bench(smollm, *PROMPT, "--compare", file, "--batch", 64)
    assert other.code == 2
    assert "other settings" in other.err
    file.write_text(first.out.replace('"logical_cores": ', '"logical_cores": 9'))
    assert "of another machine: cores 9" in bench(smollm, *PROMPT, "--compare", file).err
    assert "no run of the history and no file" in bench(smollm, *PROMPT, "--compare", "nowhere").err


def test_precision_measures_as_long_as_it_takes_within_its_time(smollm: Path) -> None:
    answer = bench(smollm, *PROMPT, "--precision", "50%")
    assert answer.code == 0, answer.err
    assert 10 <= len(answer.data["results"][0]["value"]["samples"]) <= 100
    short = bench(smollm, *PROMPT, "--precision", "0.01%", "--time-limit", "2s")
    assert "the time limit came" in " ".join(short.data["notes"])


def test_loads_cold_and_warm_and_pictures(tiny_qwen3vl: TinyModel) -> None:
    answer = bench(tiny_qwen3vl.model, "--loads", 2, "--image", "64x64", "--repetitions", 2, "--threads", 2)
    assert answer.code == 0, answer.err
    rows = {r["test"]: r for r in answer.data["results"]}
    assert set(rows) >= {"load cold", "load warm", "encode 64x64"}
    assert any(test.startswith("img pp ") and row["unit"] == "t/s" for test, row in rows.items())
    assert all(len(row["value"]["samples"]) == 2 and row["value"]["min"] > 0 for row in rows.values())


def test_pictures_without_a_projector_are_said_to_be_impossible(smollm: Path) -> None:
    answer = bench(smollm, "--image", "64x64", *QUICK, "--repetitions", 1)
    assert answer.code == 0
    (row,) = [r for r in answer.data["results"] if r["status"] == "cannot"]
    assert (row["test"], row["reason"]) == ("encode 64x64", "it has no projector")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--precision", "1%", "--repetitions", 3], "give one of them"),
        (["--precision", "0"], "is no share"),
        (["--time-limit", "soon"], "is no time"),
        (["--image", "big"], "no size of a picture"),
        (["--prompt", 0, "--generate", 0], "nothing to measure"),
        (["--resume", "x"], "Give models, or --resume"),
    ],
)
def test_what_cannot_be_asked_is_refused(smollm: Path, arguments: list[object], said: str) -> None:
    answer = qwenops("bench", "speed", smollm, *arguments)
    assert answer.code == 2
    assert said in answer.err


def test_a_word_near_a_part_is_a_slip_and_any_other_is_a_model() -> None:
    assert "Did you mean 'quality'?" in qwenops("bench", "qualty").err
    assert "no such file: model.gguf" in qwenops("bench", "model.gguf").err
    assert "called 'speed'" in qwenops("bench", "./speed").err
