"""A picture that was made, or that would be: settings, memory beside the plan, the equal command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import FAINT, facts, grid
from qwenops.units import human, mib

if TYPE_CHECKING:
    from rich.console import RenderableType


def image_run_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What was made, in how long, in how much memory; or what would be, with the command of sd-cli."""
    from rich.text import Text

    settings = data["settings"]
    cfg = f"cfg {settings['true_cfg_scale']:g}"
    words = f"{settings['width']}x{settings['height']}, {settings['steps']} steps, {cfg}, seed {settings['seed']}"
    batch = f", batch of {data['batch']}" if data["batch"] > 1 else ""
    rows = [("Model", f"{data['title']}, {data['parts']['diffusion']['file']}"), ("Settings", words + batch)]
    rows.append(
        (
            "Way",
            f"{data['way']}: {human(data['planned_device_bytes'])} on the device, "
            f"{human(data['planned_host_bytes'])} in RAM planned",
        )
    )
    if not data["done"]:
        yield facts([*rows, ("Would be", "\n".join(data["files"]))])
        yield f"\n{data['sd_cli']}\n"
        return
    measured = data["measured"]
    seconds = measured["step_seconds"]
    if seconds:
        rows.append(("Time", f"{measured['seconds']:.1f} s, {median(seconds):.2f} s a step ({measured['engine']})"))
    yield facts([*rows, ("Made", "\n".join(data["files"]))])
    yield grid(
        ["MiB", "weights", "planned", "compute", "planned"],
        [
            [
                row["stage"],
                _mib(row["weights_bytes"]),
                mib(row["planned_weights_bytes"]),
                _mib(row["compute_bytes"]),
                mib(row["planned_compute_bytes"]),
            ]
            for row in measured["memory"]
        ],
    )
    if measured["peak_host_bytes"]:
        yield Text(f"the process held at most {human(measured['peak_host_bytes'])} of RAM", style=FAINT)


def _mib(size: int | None) -> str:
    return "·" if size is None else mib(size)
