"""What a calibration learned: a row a device with the default that it replaces, a row a rung with its errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.need import SHORT
from qwenops.report.tables import facts, grid
from qwenops.units import MIB

if TYPE_CHECKING:
    from rich.console import RenderableType


def calibrate_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The devices, what is not counted and why, the errors of the rungs."""
    from rich.text import Text

    if not data["devices"]:
        yield Text("Nothing was calibrated.")
        return
    yield Text(f"Loads of {data['runtime']}", style="bold")
    if counted := [d for d in data["devices"] if d["counted"]]:
        yield grid(["MiB beyond the buffers", "median", "spread", "default", "loads", "used"], map(_row, counted))
    uncounted = [(d["name"], f"{d['description']}: {d['why']}") for d in data["devices"] if not d["counted"]]
    if uncounted:
        yield facts(uncounted)
    if data["rungs"]:
        yield Text("")
        parts = list(dict.fromkeys(part for rung in data["rungs"] for part in rung["worst_bytes"]))
        header = ["worst error, MiB", "loads", *("KV" if part == "kv" else part for part in parts)]
        yield grid(header, [_errors(rung, parts) for rung in data["rungs"]])


def _row(device: Mapping[str, Any]) -> list[str]:
    spread = device["overhead"]
    return [
        device["name"],
        _mib(spread["median_bytes"]),
        f"{_mib(spread['low_bytes'])} to {_mib(spread['high_bytes'])}",
        _mib(device["default_bytes"]),
        str(spread["loads"]),
        "default" if device["source"] == "default" else "learned",
    ]


def _errors(rung: Mapping[str, Any], parts: list[str]) -> list[str]:
    worst = rung["worst_bytes"]
    cells = (_signed(worst[part]) if part in worst else "·" for part in parts)
    return [SHORT.get(rung["rung"], rung["rung"]), str(rung["loads"]), *cells]


def _signed(n_bytes: int) -> str:
    """Above zero the load needed more than was said; what rounds to nothing has no sign."""
    hundredths = round(100 * n_bytes / MIB)
    return f"{hundredths / 100:+.2f}" if hundredths else "0.00"


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / MIB:.1f}"
