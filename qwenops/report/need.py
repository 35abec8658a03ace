"""The need as a table: a row a device, the host apart, the band and the source at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import amount, grid, size_unit
from qwenops.units import human

if TYPE_CHECKING:
    from rich.console import RenderableType

PARTS = ("weights", "kv", "state", "compute", "projector", "encoder", "output", "draft", "overhead")
SAID_BY = {
    "runtime": "asked of your runtime",
    "closed form": "formula",
    "measured": "measured here before",
    "dry load": "dry load",
}


def need_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The table of one need, and what the figures rest on."""
    from rich.text import Text

    model, settings, layers = data["model"], data["settings"], data["layers"]
    yield Text(headline(model), style="bold")
    yield Text(said_settings(settings))
    yield Text("")
    rows = [(d["name"], d) for d in data["devices"]] + [("host", data["host"])]
    unit, _ = size_unit(max(row["total_bytes"] for _, row in rows))
    shown = [p for p in PARTS if any(row.get(f"{p}_bytes") for _, row in rows)]
    header = [unit, *("KV" if p == "kv" else p for p in shown), "total"]
    if data["devices"]:
        header.append("free")
    body = []
    for name, row in rows:
        cells = [name, *(amount(row.get(f"{p}_bytes", 0), unit) for p in shown), amount(row["total_bytes"], unit)]
        if data["devices"]:
            cells.append(amount(row.get("free_bytes", 0), unit))
        body.append(cells)
    yield grid(header, body)
    yield Text("")
    if data["devices"]:
        yield Text(verdict_line(data))
        yield Text(f"{layers['on_device']} of {layers['total']} layers on devices")
    yield Text(f"source: {SAID_BY.get(data['rung'], data['rung'])}{_mixed(data)}", style="dim")


def headline(model: Mapping[str, Any]) -> str:
    """Name, architecture, quant, size: 'Qwen3-VL-8B-Instruct · qwen3vl, 36 layers · Q4_K_M, 4.68 GiB'."""
    said = f"{model['name']} · {model['architecture']}, {model['layers']} layers"
    said += f" · {model['quant']}, {human(model['file_bytes'])}"
    return said + (f" + projector {human(model['projector_bytes'])}" if model.get("projector") else "")


def said_settings(settings: Mapping[str, Any]) -> str:
    """The settings that matter, in the field's own words."""
    said = f"num_ctx {settings['num_ctx']} · KV {settings['kv_type_k']} · ubatch {settings['ubatch']}"
    if settings["parallel"] > 1:
        said += f" · {settings['parallel']} in parallel"
    return said + f" · flash attention {settings['flash_attn']}"


def verdict_line(data: Mapping[str, Any]) -> str:
    """The device total with its band, against what is free."""
    total, band = data["total_device_bytes"], data["band_bytes"]
    free = sum(d["free_bytes"] for d in data["devices"])
    spread = max(band["high"] - total, total - band["low"])
    said = f"{human(total)} ±{human(spread)} on devices, {human(free)} free"
    if band["high"] <= free:
        return f"{said}: fits"
    return f"{said}: {'too close to say' if band['low'] <= free else 'does not fit'}"


def _mixed(data: Mapping[str, Any]) -> str:
    others = sorted({f"{part} by {SAID_BY.get(r, r)}" for part, r in data["sources"].items() if r != data["rung"]})
    return f" ({', '.join(others)})" if others else ""
