"""Loads of the server that Ollama ships (b10434), as they were recorded, and the closed form of each."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from qwenops.machine.types import Device
from qwenops.memory.closed_form import closed_form
from qwenops.memory.types import LoadSettings, Need
from qwenops.units import MIB
from tests.support.shapes import TEXT, text_model

Row = dict[str, Any]

SOFTWARE: Final = Device(
    "Vulkan0", "vulkan", "llvmpipe (LLVM 15.0.6, 256 bits)", 2048 * MIB, 2048 * MIB, source="runtime"
)
LOG_ROUNDING: Final = 0.011  # MiB: the log has two digits

_BUFFERS = (
    "Vulkan0 model",
    "Vulkan0 KV",
    "Vulkan0 RS",
    "Vulkan0 compute",
    "CPU KV",
    "CPU RS",
    "Vulkan_Host compute",
)
_FOLDER = Path(__file__).resolve().parent.parent / "memory"


def recorded(family: str) -> list[Row]:
    """The loads of tests/memory/recorded_FAMILY.json."""
    rows: list[Row] = json.loads((_FOLDER / f"recorded_{family}.json").read_text())["loads"]
    return rows


def row_name(row: Row) -> str:
    """Shape, quant and the settings that are not the usual ones."""
    changed = " ".join(f"{k}={v}" for k, v in row["settings"].items())
    return f"{row['shape']} {row['quant']} {changed}".strip()


def need_of(row: Row) -> Need:
    """The closed form of a row's load on the software GPU; the fit target is the row's, where it has one."""
    return _need_of(row["shape"], row["quant"], json.dumps(row["settings"]), row.get("target_mib") or 0)


@cache
def _need_of(shape: str, quant: str, changed: str, target_mib: int) -> Need:
    settings = replace(LoadSettings(), **json.loads(changed))
    reserve = {SOFTWARE.name: target_mib * MIB}
    return closed_form(text_model(TEXT[shape], quant), settings, (SOFTWARE,), reserve_bytes=reserve)


def buffers_mib(need: Need) -> dict[str, float]:
    """The buffers of a need under the names that the log has for them, in MiB."""
    device, host = need.devices[0], need.host
    on_device = (device.weights_bytes, device.kv_bytes, device.state_bytes, device.compute_bytes)
    on_host = (host.kv_bytes, host.state_bytes, host.compute_bytes)
    return {name: size / MIB for name, size in zip(_BUFFERS, (*on_device, *on_host), strict=True)}


def logged_mib(row: Row) -> dict[str, float]:
    """The same buffers as the row's log gave them; one that it does not name is empty."""
    return {name: row["devices"].get(name, 0.0) for name in _BUFFERS}
