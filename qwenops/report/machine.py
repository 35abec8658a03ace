"""The machine and the runtime as they were found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import facts, grid
from qwenops.units import gib, human

if TYPE_CHECKING:
    from rich.console import RenderableType


def machine_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Devices by the driver, devices by the runtime, host, server and settings in force."""
    from rich.text import Text

    host = data["host"]
    cores = f"{host['physical_cores']} cores ({host['logical_cores']} threads)"
    rows = [("Host", f"{human(host['available_bytes'])} of {human(host['total_bytes'])} RAM free · {cores}")]
    runtime = data["runtime"]
    if runtime:
        version = f"Ollama {runtime['version']}" if runtime["version"] else "no Ollama answers"
        build = f" · llama-server {runtime['llama_server_build']}" if runtime["llama_server_build"] else ""
        rows.append(("Runtime", f"{version} at {runtime['url']} ({runtime['place']}){build}"))
        if runtime["store"]:
            writable = "writable" if runtime["store_writable"] else "not writable by you"
            rows.append(("Store", f"{runtime['store']}, {writable}"))
        for model in runtime["loaded"]:
            rows.append(("Loaded", f"{model['name']}, {human(model['size_vram_bytes'])} on devices"))
    yield facts(rows)
    devices = [("driver", d) for d in data["devices"]] + [("runtime", d) for d in data["runtime_devices"]]
    if devices:
        yield Text("")
        yield grid(
            ["device", "", "seen by", "GiB", "free"],
            [[d["name"], d["description"], by, gib(d["total_bytes"]), gib(d["free_bytes"])] for by, d in devices],
            left=3,
        )
    else:
        yield Text("No GPU: models run on the CPU.")
    settings = runtime["settings"] if runtime else []
    if settings:
        yield Text("")
        yield grid(["setting", "value", "read from"], [[s["name"], s["value"], s["source"]] for s in settings], left=3)
