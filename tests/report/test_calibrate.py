"""A calibration as people see it: what is used from now on beside what it replaces, and where the overhead is said."""

from __future__ import annotations

from typing import Any

import pytest

from qwenops.report.need import need_view
from qwenops.report.terminal import render
from qwenops.result import Result
from qwenops.units import MIB

SPREAD = {"low_bytes": 428 * MIB, "median_bytes": 431 * MIB, "high_bytes": 440 * MIB, "loads": 3}
CARD = {
    "name": "CUDA0",
    "description": "NVIDIA GeForce RTX 3060",
    "kind": "cuda",
    "driver": "580.126",
    "counted": True,
    "overhead": SPREAD,
    "beyond_the_context": None,
    "default_bytes": 456 * MIB,
    "source": "learned (3 loads)",
    "why": "",
}
BLIND = {**CARD, "name": "Vulkan0", "counted": False, "overhead": None, "source": "default", "why": "nobody counts it"}
RUNGS = [
    {"rung": "runtime", "loads": 3, "worst_bytes": {"weights": 4000, "kv": 0, "compute": -2 * MIB}},
    {"rung": "closed form", "loads": 2, "worst_bytes": {"weights": 0, "compute": 3 * MIB // 2}},
]


def drawn(capsys: pytest.CaptureFixture[str], width: int = 80, **changes: Any) -> list[str]:
    data = {"runtime": "ollama 0.32.14 llama-server b10434", "devices": [CARD, BLIND], "rungs": RUNGS, **changes}
    render(Result("qwenops.calibrate/1", data), width=width)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_the_figure_stands_beside_the_default_it_replaces(capsys: pytest.CaptureFixture[str], width: int) -> None:
    lines = drawn(capsys, width)
    assert all(len(line) <= width for line in lines)
    assert lines[2].split() == ["CUDA0", "431.0", "428.0", "to", "440.0", "456.0", "3", "learned"]
    assert "nobody counts it" in "".join(lines)


def test_errors_have_a_sign_unless_they_are_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split() for line in drawn(capsys)]
    assert ["runtime", "3", "0.00", "0.00", "-2.00"] in lines
    assert ["formula", "2", "0.00", "·", "+1.50"] in lines


def test_a_few_loads_leave_the_default_in_use_and_nothing_is_said_to_be_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = {**CARD, "overhead": {**SPREAD, "loads": 2}, "source": "default"}
    assert drawn(capsys, devices=[few])[2].split()[-2:] == ["2", "default"]
    assert drawn(capsys, devices=[]) == ["Nothing was calibrated."]


@pytest.mark.parametrize(
    ("source", "said"),
    [("learned (3 loads)", "overhead learned (3 loads)"), ("default", "overhead by a stated default")],
)
def test_a_need_says_where_its_overhead_is_from(source: str, said: str) -> None:
    device = {"name": "CUDA0", "total_bytes": 431 * MIB, "overhead_bytes": 431 * MIB, "free_bytes": 1024 * MIB}
    data: dict[str, Any] = {
        "model": {"name": "m", "architecture": "qwen3", "layers": 36, "quant": "Q8_0", "file_bytes": 1},
        "settings": {"num_ctx": 1, "kv_type_k": "f16", "ubatch": 512, "parallel": 1, "flash_attn": "auto"},
        "layers": {"on_device": 37, "total": 37},
        "devices": [device],
        "host": {"total_bytes": 0},
        "host_available_bytes": 1,
        "total_device_bytes": 431 * MIB,
        "band_bytes": {"low": 430 * MIB, "high": 440 * MIB},
        "fits": "yes",
        "tightest": "CUDA0",
        "rung": "runtime",
        "sources": {"weights": "runtime", "overhead": source},
    }
    assert said in str(list(need_view(data))[-1])
