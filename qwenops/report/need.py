"""The need as a table: a row a part, a column a place, the edges and the source at the end; and rungs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import amount, grid, size_unit
from qwenops.units import gib, human, mib

if TYPE_CHECKING:
    from rich.console import RenderableType

PARTS = ("weights", "kv", "state", "compute", "projector", "encoder", "output", "draft", "overhead")
SAID_BY = {
    "runtime": "asked of your runtime",
    "closed form": "formula",
    "measured": "measured here before",
    "dry load": "dry load",
    "default": "a stated default",
}
SHORT = {"runtime": "runtime", "closed form": "formula", "measured": "measured", "dry load": "dry load"}


def need_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The table of one need, and what the figures rest on."""
    from rich.text import Text

    model, settings, layers = data["model"], data["settings"], data["layers"]
    yield Text(headline(model), style="bold")
    yield Text(said_settings(settings))
    yield Text("")
    places = [(d["name"], d) for d in data["devices"]] + [("host", data["host"])]
    unit, _ = size_unit(max(place["total_bytes"] for _, place in places))
    shown = [p for p in PARTS if any(place.get(f"{p}_bytes") for _, place in places)]
    body = [
        ["KV" if p == "kv" else p, *(amount(place.get(f"{p}_bytes", 0), unit) for _, place in places)] for p in shown
    ]
    body.append(["total", *(amount(place["total_bytes"], unit) for _, place in places)])
    free = [*(d["free_bytes"] for d in data["devices"]), data["host_available_bytes"]]
    body.append(["free", *(amount(n_bytes, unit) for n_bytes in free)])
    yield grid([unit, *(name for name, _ in places)], body)
    yield Text("")
    if data["devices"]:
        yield Text(verdict_line(data))
        yield Text(f"{layers['on_device']} of {layers['total']} layers on devices")
    else:
        yield Text(f"{human(data['host']['total_bytes'])} of host memory: {verdict_word(data)}")
    yield Text(f"source: {SAID_BY.get(data['rung'], data['rung'])}{_mixed(data)}", style="dim")


def compare_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Every rung that answered as a column, every component as a row, in MiB; below, who said what is not its own."""
    from rich.text import Text

    answers = data["answers"]
    yield Text(headline(data["model"]), style="bold")
    yield Text(said_settings(data["settings"]))
    yield Text("")
    if not answers:
        yield Text("no rung answered")
        return
    body = []
    for i, device in enumerate(answers[0]["devices"]):
        body += _compared(device["name"], [a["devices"][i] for a in answers])
    body += _compared("host", [a["host"] for a in answers])
    if answers[0]["devices"]:
        body.append(["all devices", *(mib(a["total_device_bytes"]) for a in answers)])
        body.append(["band", *(_band(a) for a in answers)])
        body.append(["layers on them", *(f"{a['layers']['on_device']}/{a['layers']['total']}" for a in answers)])
    yield grid(["MiB", *(SHORT[a["rung"]] for a in answers)], body)
    if borrowed := [line for a in answers for line in _borrowed(a)]:
        yield Text("")
        yield Text("\n".join(borrowed), style="dim")


def _compared(place: str, rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A place's rows: each part that any rung sees there, then the total."""
    shown = [p for p in PARTS if any(row.get(f"{p}_bytes") for row in rows)]
    parts = [
        [f"  {'KV' if p == 'kv' else p}", *(amount(row.get(f"{p}_bytes", 0), "MiB") for row in rows)] for p in shown
    ]
    return [[place, *(amount(row["total_bytes"], "MiB") for row in rows)], *parts]


def _borrowed(answer: Mapping[str, Any]) -> list[str]:
    """Which of a rung's figures another one lent it, a line for each lender."""
    places = [*answer["devices"], answer["host"]]
    lenders: dict[str, list[str]] = {}
    for part, rung in answer["sources"].items():
        if rung != answer["rung"] and any(place.get(f"{part}_bytes") for place in places):
            lenders.setdefault(rung, []).append(part)
    return [
        f"{SHORT[answer['rung']]}: {', '.join(parts)} {_by(SHORT.get(rung) or SAID_BY.get(rung, rung))}"
        for rung, parts in lenders.items()
    ]


def _by(source: str) -> str:
    """'by formula', 'by a stated default'; what was learned says so itself: 'learned (3 loads)'."""
    return source if source.startswith("learned") else f"by {source}"


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
    """What the devices hold, between which edges, and whether each place holds its share."""
    free = sum(d["free_bytes"] for d in data["devices"])
    said = f"{human(data['total_device_bytes'])} on devices ({edges(data)}), {human(free)} free"
    return f"{said}: {verdict_word(data)}"


def verdict_word(data: Mapping[str, Any]) -> str:
    """'fits', or which place is too small."""
    if data["fits"] == "yes":
        return "fits"
    place = "" if data["tightest"] != "host" and len(data["devices"]) == 1 else f" on {data['tightest']}"
    return f"too close to say{place}" if data["fits"] == "too close" else f"does not fit{place}"


def edges(data: Mapping[str, Any]) -> str:
    """Between which edges the device total lies: '10.84 to 11.29 GiB'."""
    low, high = data["band_bytes"]["low"], data["band_bytes"]["high"]
    if high < 1024**3:
        return f"{mib(low)} to {mib(high)} MiB"
    return f"{gib(low)} to {gib(high)} GiB"


def _band(data: Mapping[str, Any]) -> str:
    """How far the total may be off, below and above: '-4.1 +1.4'."""
    total, band = data["total_device_bytes"], data["band_bytes"]
    return f"-{mib(total - band['low'])} +{mib(band['high'] - total)}"


def _mixed(data: Mapping[str, Any]) -> str:
    places = [*data["devices"], data["host"]]
    others = sorted(
        f"{part} {_by(SAID_BY.get(rung, rung))}"
        for part, rung in data["sources"].items()
        if rung != data["rung"] and any(place.get(f"{part}_bytes") for place in places)
    )
    return f" ({', '.join(others)})" if others else ""
