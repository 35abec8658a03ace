"""What a picture takes: parts, ways with their stages, and what to take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import FAINT, facts, grid
from qwenops.units import gib, human

if TYPE_CHECKING:
    from rich.console import RenderableType

_KNOWN = {"header": "its header", "dimensions": "published dimensions", "published": "published size"}


def image_plan_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The choice first, then its parts, its ways stage by stage, and the other quants."""
    from rich.text import Text

    yield facts(_head(data))
    best = data["best"]
    chosen = [one for one in data["quants"] if best and one["quant"] == best["quant"]] or data["quants"][-1:]
    parts = [*chosen, *data["parts"]]
    yield grid(
        ["part", "file", "file GiB", "loaded GiB", "known by"],
        [[p["what"], p["file"], gib(p["file_bytes"]), gib(p["loaded_bytes"]), _KNOWN[p["known_by"]]] for p in parts],
        left=2,
    )
    yield "\n"
    yield grid(_columns(data["ways"]), [_way(one, best) for one in data["ways"]])
    yield Text("GiB on the device by stage, their peak, and the peak in RAM; * in RAM   ! no room", style=FAINT)
    if len(data["quants"]) > 1:
        yield "\n"
        yield grid(["quant", "file GiB", "the fastest way that fits"], [_quant(one) for one in data["quants"]])


def _head(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    room, best = data["room"], data["best"]
    where = "no GPU" if room["device"] is None else f"{room['device']}, {human(room['device_bytes'])} for buffers"
    references = f", references {' '.join(data['references'])}" if data["references"] else ""
    rows = [
        ("Machine", f"{where} · {human(room['host_bytes'])} of RAM"),
        (
            "Picture",
            f"{data['title']} {data['size']}, {data['steps']} steps of {data['evaluations'] // data['steps']} runs, "
            f"prompt of {data['prompt_tokens']} tokens{references}",
        ),
    ]
    if best is None:
        return [*rows, ("Plan", "nothing fits")]
    flags = " ".join(best["flags"]) or "no further flags"
    rows.append(
        (
            "Plan",
            f"{best['quant']}, {best['way']}: {human(best['device_bytes'])} on the device, "
            f"{human(best['host_bytes'])} in RAM",
        )
    )
    rows.append(("Flags", f"{flags}{' --diffusion-fa' if data['flash_attention'] else ''}"))
    seconds = data["seconds_a_step"]
    rows.append(
        ("Time", "unknown until measured here" if seconds is None else f"{seconds:.1f} s a step, measured here")
    )
    return rows


def _columns(ways: Sequence[Mapping[str, Any]]) -> list[str]:
    stages = [stage["stage"] for stage in ways[0]["stages"]] if ways else []
    return ["way", *stages, "device", "RAM"]


def _way(one: Mapping[str, Any], best: Mapping[str, Any] | None) -> list[str]:
    cells = []
    for stage in one["stages"]:
        cells.append(f"{gib(stage['host_bytes'])}*" if not stage["device_bytes"] else gib(stage["device_bytes"]))
    mark = "> " if best and one["way"] == best["way"] else "  "
    device = gib(one["device_bytes"]) + ("" if one["fits_device"] else "!")
    host = gib(one["host_bytes"]) + ("" if one["fits_host"] else "!")
    return [mark + one["way"], *cells, device, host]


def _quant(one: Mapping[str, Any]) -> list[str]:
    best = one["best"]
    return [one["quant"], gib(one["file_bytes"]), "·" if best is None else best["way"]]
