"""Calibration on a real Ollama: what it keeps, what it leaves, and what it says where nobody counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from qwenops import history
from qwenops.errors import PartMissing
from qwenops.runtime.client import Client
from qwenops.runtime.types import Place, Runtime
from qwenops.setup.calibrate import check_reach
from qwenops.units import GIB, MIB
from tests.memory.test_overhead import entry
from tests.support.cli import qwenops
from tests.support.nvml import ROOT, FakeNvml, build_library
from tests.support.server import OllamaServer

pytestmark = [pytest.mark.server, pytest.mark.slow]

BEFORE, HELD = 700 * MIB, 600 * MIB


def env_of(server: OllamaServer, home: Path) -> dict[str, str]:
    return {"OLLAMA_HOST": server.url, "OLLAMA_MODELS": str(server.store), "QWENOPS_HOME": str(home)}


def rows(home: Path) -> tuple[history.LoadRow, ...]:
    with history.open(home / "data" / "history.sqlite3") as kept:
        return kept.loads()


def left_of(server: OllamaServer, home: Path) -> list[str]:
    """Whatever of a calibration is still there: models, blobs, files, loaded models, open entries of the ledger."""
    client = Client(server.url)
    left = [tag.name for tag in client.tags()] + [model.name for model in client.ps()]
    left += [str(path) for path in server.store.rglob("*") if path.is_file()]
    left += [str(path) for path in (home / "cache").rglob("*") if "calibration" in path.name and path.is_file()]
    with history.open(home / "data" / "history.sqlite3") as kept:
        return left + [row.name for row in kept.made()]


@pytest.fixture
def nvml(tmp_path: Path) -> FakeNvml:
    return FakeNvml(build_library(tmp_path / "nvml"), tmp_path)


def card(server: OllamaServer, name: str, *, driver: str = "580.126", more: str = "") -> str:
    """A card of that name on which each llama-server of this Ollama holds 600 MiB."""
    return f"""
driver = {driver}
[gpu]
name = {name}
uuid = GPU-1
total = {4 * GIB}
used = {BEFORE}
process = graphics 1 {300 * MIB}
children = {server.pid} llama-server {HELD}
{more}"""


@pytest.mark.vulkan
def test_the_software_gpu_teaches_errors_and_no_overhead(start_server: Any, tmp_path: Path) -> None:
    server: OllamaServer = start_server()
    home = tmp_path / "home"
    answer = qwenops("calibrate", "--json", env=env_of(server, home))
    assert answer.code == 0, answer.err
    (device,) = answer.data["devices"]
    assert (device["counted"], device["overhead"], device["source"]) == (False, None, "default")
    assert "memory is the host's" in device["why"]
    assert [rung["rung"] for rung in answer.data["rungs"]] == ["runtime", "closed form"]
    for rung in answer.data["rungs"]:
        assert rung["loads"] == 3
        assert max(map(abs, rung["worst_bytes"].values())) < MIB
    assert [load["ok"] for load in answer.data["loads"]] == [True] * 3
    kept = rows(home)
    assert len(kept) == 3
    assert all(row.measured and row.measured["usage"] == [] for row in kept)
    assert all(row.predicted["also"][0]["rung"] == "closed form" for row in kept)
    assert left_of(server, home) == []


@pytest.mark.vulkan
def test_what_the_driver_counts_is_kept_and_later_loads_are_added(
    start_server: Any, tmp_path: Path, nvml: FakeNvml
) -> None:
    server: OllamaServer = start_server()
    home = tmp_path / "home"
    name = qwenops("machine", "--json", env=env_of(server, home)).data["runtime_devices"][0]["description"]

    def ask(*args: str, driver: str = "580.126") -> Any:
        counted = nvml.environment(card(server, name, driver=driver))
        return qwenops(*args, env={**env_of(server, home), **only_nvml(counted)})

    answer = ask("calibrate", "--json")
    assert answer.code == 0, answer.err
    (device,) = answer.data["devices"]
    buffers = [entry["buffers_bytes"] for row in rows(home) for entry in row.measured["usage"]]  # type: ignore[index]
    overs = sorted(HELD - size for size in buffers)
    assert device["overhead"] == {"low_bytes": overs[0], "median_bytes": overs[1], "high_bytes": overs[2], "loads": 3}
    assert sorted(load["overhead_bytes"] for load in answer.data["loads"]) == overs
    assert [load["disturbed"] for load in answer.data["loads"]] == [""] * 3
    assert (device["driver"], device["kind"]) == ("580.126", "vulkan")
    assert left_of(server, home) == []
    text = ask("calibrate", "--yes").out
    assert "6" in text.split(name)[0], "the new loads count together with those before"
    codes = {f["code"] for f in ask("doctor", "--json", driver="590.10").data["findings"]}
    assert "calibration-stale" not in codes, "nothing is added for a GPU that is the CPU, so nothing can be stale"


def test_a_learned_overhead_reaches_the_answer_until_the_driver_changes(
    start_server: Any, tmp_path: Path, smollm: Path, nvml: FakeNvml
) -> None:
    """The card is NVML's, the loads are of the history, the runtime is the real one's build."""
    server: OllamaServer = start_server(gpu=False)
    home, name = tmp_path / "home", "NVIDIA GeForce RTX 3060"

    def ask(*args: object, driver: str = "580.126") -> Any:
        counted = nvml.environment(card(server, name, driver=driver))
        return qwenops(*args, "--json", env={**env_of(server, home), **only_nvml(counted)}).data

    def overhead(driver: str) -> tuple[int, str]:
        said = ask("need", smollm, "--rung", "closed-form", driver=driver)
        assert said["band_bytes"]["low"] <= said["total_device_bytes"] <= said["band_bytes"]["high"]
        return said["devices"][0]["overhead_bytes"], said["sources"]["overhead"]

    def findings(driver: str) -> dict[str, str]:
        return {f["code"]: f["title"] for f in ask("doctor", driver=driver)["findings"]}

    runtime = ask("machine")["runtime"]
    build = f"ollama {runtime['version']} llama-server {runtime['llama_server_build']}"
    with history.open(home / "data" / "history.sqlite3") as kept:
        for over in (420, 431, 433):
            usage = {"devices": [], "layers": None, "usage": [entry(over * MIB)]}
            kept.record_load("m", "s", build, name, {}, usage, True)

    assert overhead("580.126") == (431 * MIB, "learned (3 loads)")
    assert "431 MiB, learned from 3 loads" in findings("580.126")["calibration"]
    assert overhead("590.10") == (456 * MIB, "default")
    assert "another driver" in findings("590.10")["calibration-stale"]


def only_nvml(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in ("LD_LIBRARY_PATH", "QWENOPS_TEST_NVML")}


@pytest.mark.vulkan
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_calibration_that_is_stopped_leaves_nothing(
    start_server: Any, tmp_path: Path, number: signal.Signals
) -> None:
    server: OllamaServer = start_server()
    home = tmp_path / "home"
    process = calibrating(server, home)
    # The server's log tells when the first model is being loaded, which is where most of the time goes.
    wait_for(server, "starting llama-server", process)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 128 + signal.SIGTERM}[number], out
    assert "Traceback" not in err
    assert left_of(server, home) == []
    assert list((home / "cache" / "calibration").iterdir()) == []


@pytest.mark.vulkan
def test_what_a_killed_calibration_left_goes_with_the_next(start_server: Any, tmp_path: Path) -> None:
    server: OllamaServer = start_server()
    home = tmp_path / "home"
    process = calibrating(server, home)
    wait_for(server, "starting llama-server", process)
    process.kill()
    process.communicate()
    assert left_of(server, home)
    assert qwenops("calibrate", env=env_of(server, home)).code == 0
    assert left_of(server, home) == []
    assert list((home / "cache" / "calibration").iterdir()) == []


def calibrating(server: OllamaServer, home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "qwenops", "calibrate"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **env_of(server, home)},
    )


def wait_for(server: OllamaServer, text: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while text not in server.log():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_without_a_device_there_is_nothing_to_learn_and_nothing_is_loaded(start_server: Any, tmp_path: Path) -> None:
    server: OllamaServer = start_server(gpu=False)
    answer = qwenops("calibrate", env=env_of(server, tmp_path / "home"))
    assert (answer.code, answer.out) == (0, "Nothing was calibrated.\n")
    assert "nothing to calibrate on devices" in answer.err
    assert "the host has no figure to learn" in answer.err
    assert "starting llama-server" not in server.log()


@pytest.mark.vulkan
def test_another_model_that_is_loaded_is_named_and_left_alone(start_server: Any, smollm: Path, tmp_path: Path) -> None:
    server: OllamaServer = start_server()
    env = env_of(server, tmp_path / "home")
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text(f"FROM {smollm}\nPARAMETER num_ctx 256\n")
    assert qwenops("register", "mine", "-f", modelfile, "--no-check", env=env).code == 0
    client = Client(server.url)
    client.load("mine")

    refused = qwenops("calibrate", env=env)
    assert refused.code == 1
    assert "mine:latest is loaded" in refused.err
    assert "--yes" in refused.err
    done = qwenops("calibrate", "--yes", "--json", env=env)
    assert done.code == 0, done.err
    assert done.data["others"] == ["mine:latest"]
    assert [model.name for model in client.ps()] == ["mine:latest"]
    assert [tag.name for tag in client.tags()] == ["mine:latest"]


@pytest.mark.vulkan
def test_a_device_that_is_not_there_is_refused_with_the_list(ollama_server: OllamaServer, tmp_path: Path) -> None:
    answer = qwenops("calibrate", "--device", "CUDA7", env=env_of(ollama_server, tmp_path / "home"))
    assert answer.code == 2
    assert "no device CUDA7" in answer.err
    assert "Vulkan0" in answer.err
    assert not (tmp_path / "home" / "data" / "history.sqlite3").exists()


@pytest.mark.parametrize("place", ["remote", "container", "wsl"])
def test_a_server_elsewhere_is_calibrated_where_it_runs(place: Place) -> None:
    with pytest.raises(PartMissing, match="its log, which names the buffers") as told:
        check_reach(Runtime(place, "http://10.0.0.7:1", version="0.32.14"))
    assert told.value.do == ("run qwenops calibrate where the server runs",)


@pytest.mark.vulkan
def test_where_the_log_is_out_of_reach_it_says_so_and_keeps_nothing(start_server: Any, tmp_path: Path) -> None:
    server: OllamaServer = start_server()
    server.log_path.unlink()
    answer = qwenops("calibrate", "--json", env=env_of(server, tmp_path / "home"))
    assert answer.code == 1
    assert sum("not learned from, no log of this server" in note for note in answer.data["notes"]) == 3
    assert [row.measured for row in rows(tmp_path / "home")] == [None] * 3
    assert left_of(server, tmp_path / "home") == []


def test_without_a_server_it_says_what_to_start(tmp_path: Path) -> None:
    answer = qwenops("calibrate", env={"QWENOPS_HOME": str(tmp_path)})
    assert answer.code == 3
    assert answer.out == ""
