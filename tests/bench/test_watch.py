"""What is watched meanwhile: memory, energy, clocks and heat by a driver, and what else kept the machine busy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qwenops.bench.types import Timing
from qwenops.bench.watch import Held, Look, Seen, Watch
from qwenops.machine.host_meters import HostReading, ProcessReading, read_host_meters, read_processes
from qwenops.machine.meters import Reading, device_meters
from tests.support.nvml import ROOT, FakeNvml, build_library

MIB = 1024**2

CARD = f"name = RTX\nbus = 0000:01:00\ntotal = {8192 * MIB}\nused = {600 * MIB}\nclock = 1800\ntemperature = 64\n"

_WATCHED = """
import json, os, pathlib, sys, time
from qwenops.bench.types import SpeedSettings, SpeedTest, Timing, Variant
from qwenops.bench.watch import Held, Seen, Watch
from qwenops.worker import Worker
scenario = pathlib.Path(os.environ["QWENOPS_TEST_NVML"])
name = pathlib.Path("/proc/self/comm").read_text().strip()
scenario.write_text(scenario.read_text() + f"children = {os.getpid()} {name} 268435456\\n")
seen, held = Seen(), Held()
with Watch() as watch:
    before = watch.look()
    with Worker() as worker:
        pids = frozenset({worker.pid})
        time.sleep(0.3)
        began = time.monotonic()
        time.sleep(0.5)
        ended = time.monotonic()
        after = watch.look(pids)
        watch.turn(seen, before, after, [Timing({"tg1": 1.0}, began, ended, 100)], [])
        watch.hold(held, before, after, {})
json.dump({"seconds": ended - began, "energy": seen.energy(), "busy": seen.busy(), "seen": seen.as_data(),
           "held": held.as_data()}, sys.stdout)
"""


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> FakeNvml:
    folder = tmp_path_factory.mktemp("nvml")
    return FakeNvml(build_library(folder), folder)


def watched(nvml: FakeNvml, scenario: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED],
        env=nvml.environment(scenario),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_card_tells_memory_energy_clock_and_heat(nvml: FakeNvml) -> None:
    told = watched(nvml, f"[gpu]\n{CARD}power = 150000\nenergy = 1\nreasons = 0\n")
    joules = 150 * told["seconds"]
    assert told["energy"]["joules"] == pytest.approx(joules, rel=0.05)
    assert told["energy"]["watts"] == pytest.approx(150, rel=0.05)
    assert told["energy"]["joules_per_1000_tokens"] == pytest.approx(joules * 10, rel=0.05)
    assert told["energy"]["tokens_per_second_per_watt"] == pytest.approx(100 / joules, rel=0.05)
    assert told["energy"]["source"] == "NVML energy counter"
    assert told["held"]["peak_device_bytes"] == {"CUDA0": 256 * MIB}
    assert told["seen"]["temperatures_c"]["CUDA0"] == 64
    assert told["seen"]["clocks_mhz"]["CUDA0"] == [1800, 1800]
    assert not [flag for flag in told["busy"] if "CUDA0" in flag["what"]]


def test_power_is_integrated_where_nothing_counts_energy(nvml: FakeNvml) -> None:
    told = watched(nvml, f"[gpu]\n{CARD}power = 150000\n")
    assert told["energy"]["joules"] == pytest.approx(150 * told["seconds"], rel=0.05)
    assert told["energy"]["source"] == "power, integrated"


@pytest.mark.parametrize(
    ("reasons", "held_back"),
    [(0x8 | 0x40, "hardware slowdown, hardware thermal slowdown"), (0x20, "software thermal slowdown"), (0x4, None)],
)
def test_a_card_that_is_held_back_is_named_and_its_power_limit_is_no_fault(
    nvml: FakeNvml, reasons: int, held_back: str | None
) -> None:
    told = watched(nvml, f"[gpu]\n{CARD}reasons = {reasons}\n")
    flags = [flag["value"] for flag in told["busy"] if flag["what"] == "CUDA0 clocks"]
    assert flags == ([held_back] if held_back else [])
    assert told["seen"]["power_capped"] == ([] if held_back else ["CUDA0"])
    assert told["energy"] is None, "no power, no energy: nothing is made up"


def test_two_cards_are_in_pci_order_and_both_count(nvml: FakeNvml) -> None:
    second = CARD.replace("0000:01:00", "0000:00:00").replace("clock = 1800", "clock = 900")
    told = watched(nvml, f"[gpu]\n{CARD}power = 100000\n[gpu]\n{second}power = 50000\n")
    assert told["seen"]["clocks_mhz"]["CUDA0"] == [900, 900]
    assert told["energy"]["watts"] == pytest.approx(150, rel=0.05)


def test_an_amd_card_is_read_from_its_files(tmp_path: Path) -> None:
    card = tmp_path / "sys/class/drm/card0/device"
    (card / "hwmon/hwmon3").mkdir(parents=True)
    for name, text in {
        "vendor": "0x1002",
        "uevent": "PCI_SLOT_NAME=0000:03:00.0",
        "mem_info_vram_total": str(16384 * MIB),
        "mem_info_vram_used": str(700 * MIB),
        "hwmon/hwmon3/power1_average": "120000000",
        "hwmon/hwmon3/freq1_input": "2400000000",
        "hwmon/hwmon3/temp1_input": "71000",
    }.items():
        (card / name).write_text(text + "\n")
    (meter,) = [m for m in device_meters(tmp_path) if m.name.startswith("ROCm")]
    assert meter.read() == Reading(used_bytes=700 * MIB, power_w=120.0, clock_mhz=2400, temperature_c=71.0)


def test_nothing_is_made_up_where_there_is_no_card() -> None:
    with Watch([]) as watch:
        seen, held = Seen(), Held()
        look = watch.look()
        watch.turn(seen, look, watch.look(), [Timing({"tg1": 1.0}, look.at, look.at, 1)], [])
        watch.hold(held, look, watch.look(), {})
    assert seen.energy() is None
    assert held.as_data()["peak_device_bytes"] is None


def host(**values: Any) -> HostReading:
    quiet = HostReading(100.0, 0.0, 0, 0, None, None, 0.1)
    return HostReading(**{**quiet.__dict__, **values})


def look(at: float, cpu_s: float, reading: HostReading) -> Look:
    return Look(at, 0.0, reading, ProcessReading(cpu_s, None, None, None, None), True, {})


@pytest.mark.parametrize(
    ("after", "own_s", "faults", "flag"),
    [
        (host(busy_s=120.0), 19.9, 0, None),
        (host(busy_s=128.0), 18.0, 0, "other programs"),
        (host(busy_s=120.0, steal_s=1000.0), 20.0, 0, "steal"),
        (host(busy_s=120.0, swapped_in_pages=500), 20.0, 0, "swap"),
        (host(busy_s=120.0, throttle_events=3), 20.0, 0, "CPU heat"),
        (host(busy_s=120.0), 20.0, 400, "page faults"),
    ],
)
def test_a_machine_that_is_not_quiet_is_named_with_the_evidence(
    after: HostReading, own_s: float, faults: int, flag: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("psutil.cpu_count", lambda: 4)
    seen = Seen()
    timing = Timing({"tg1": 1.0}, 1.0, 9.0, 1, major_faults=faults)
    Watch([]).turn(seen, look(0.0, 0.0, host()), look(10.0, own_s, after), [timing], [])
    assert [one["what"] for one in seen.busy()] == ([flag] if flag else [])
    assert all(one["why"] and one["value"] for one in seen.busy())


def test_a_process_and_the_host_are_read_for_real() -> None:
    import os

    own = read_processes(frozenset({os.getpid()}))
    assert own.cpu_s > 0
    assert own.peak_bytes
    if sys.platform.startswith("linux"):
        assert own.private_bytes
        assert own.private_bytes <= own.peak_bytes
        assert own.shared_bytes
    assert read_host_meters().busy_s > 0
    assert read_processes(frozenset({2**22})).peak_bytes is None
