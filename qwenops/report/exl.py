"""ExLlama's answers on a terminal: a need, a card's choices, and both engines in one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import amount, facts, grid, size_unit
from qwenops.units import gib, human

if TYPE_CHECKING:
    from rich.console import RenderableType

PARTS = (
    ("weights", "weights", "headers"),
    ("vision", "vision tower, fp16", "headers"),
    ("cache", "cache", "source"),
    ("state", "recurrent state", "source"),
    ("expanded", "one layer expanded", "source"),
    ("compute", "compute", "estimate"),
    ("encoder", "encoder", "estimate"),
    ("overhead", "CUDA, PyTorch", "guess"),
)
FITS = {"yes": "fits", "too close": "too close to say", "no": "does not fit"}


def need_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The table of one need, what each figure rests on, and the verdict by the band."""
    from rich.text import Text

    need, device = data["need"], data["device"]
    settings = need["settings"]
    yield Text(headline(data["model"]), style="bold")
    yield Text(f"context {settings['num_ctx']} · cache {settings['bits']} bit · chunk {settings['chunk']} · TabbyAPI")
    yield Text("")
    unit, _ = size_unit(need["band_bytes"]["high"])
    body = [
        [said, amount(need[f"{part}_bytes"], unit), source] for part, said, source in PARTS if need[f"{part}_bytes"]
    ]
    body.append(["in all", amount(need["total_bytes"], unit), "compute and encoder take turns"])
    yield grid([unit, device["name"] if device else "device", "by"], body, left=1)
    yield Text("")
    yield Text(f"{_edges(need)} on the device, {human(need['host_bytes'])} on the host (the token embedding)")
    if data["refused"]:
        yield Text(f"does not run: {data['refused']}")
    elif device:
        yield Text(f"{human(device['free_bytes'])} free: {FITS[data['fits']]}")


def plan_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A card's choices: a row a model and a cache, the largest context that is safe, the one that is taken."""
    from rich.text import Text

    yield facts(_head(data))
    if data["choices"]:
        yield Text("")
        yield grid(
            ["", "model", "bpw", "cache", "largest", "context", "needs, GiB", ""],
            _rows(data["choices"], data["choice"]),
            left=2,
        )
        yield Text("")
    for refused in data["refused"]:
        yield Text(f"{refused['model']} does not run: {refused['why']}")
    if data["choice"]:
        taken = data["choice"]
        yield Text(f"taken: {taken['model']['name']}, cache {taken['cache_bits']} bit, {taken['num_ctx']} tokens")
    elif data["choices"]:
        word = "Too close to promise" if data["fits"] == "too close" else "Does not fit"
        yield Text(f"{word}: {data['floor']} tokens are wanted.", style="bold")


def beside_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Both engines in one table."""
    from rich.text import Text

    yield facts(_head(data))
    yield Text("")
    yield grid(
        ["engine", "variant", "files", "cache", "largest", "context", "needs, GiB", ""],
        [_beside_row(row) for row in data["rows"]],
        left=2,
    )
    yield Text("")
    for refused in data["refused"]:
        yield Text(f"{refused['model']} does not run: {refused['why']}")
    yield Text(
        "GiB, with projector or vision tower; a range is a band, a single figure a formula's without one", style="dim"
    )


def headline(model: Mapping[str, Any]) -> str:
    """Name, architecture, bits, size: 'Qwen3-VL-8B-exl3 · Qwen3VL…, 36 layers · EXL3 4.03 bpw, 5.9 GiB'."""
    said = f"{model['name']} · {model['architecture']}, {model['layers']} layers"
    said += f" · {model['format'].upper()} {_bits(model['stored_bits'])} bpw"
    if model["stored_head_bits"]:
        said += f", head {_bits(model['stored_head_bits'])}"
    return f"{said} · {human(model['file_bytes'])}"


def _head(data: Mapping[str, Any]) -> list[tuple[str, Any]]:
    device = data["device"]
    if device is None:
        return [("Machine", "no card that ExLlama runs on")]
    name = device["description"] or device["name"]
    said = f"{name}, {gib(device['total_bytes'])} GiB, {gib(device['free_bytes'])} free"
    return [("Machine", said), ("Task", f"{data['floor']} tokens of context are wanted")]


def _rows(choices: Sequence[Mapping[str, Any]], taken: Mapping[str, Any] | None) -> Iterator[list[str]]:
    """A row a choice; the model is named once, the choice that is taken marked."""
    before = None
    for choice in choices:
        model = choice["model"]
        again = model["source"] == before
        before = model["source"]
        yield [
            "→" if choice == taken else "",
            "" if again else model["name"],
            "" if again else _bits(model["stored_bits"]),
            choice["cache_bits"],
            str(choice["largest_context"] or "·"),
            str(choice["num_ctx"]),
            _band(choice["need"]["band_bytes"]),
            FITS[choice["fits"]],
        ]


def _beside_row(row: Mapping[str, Any]) -> list[str]:
    needs = _band(row["band_bytes"]) if row["band_bytes"] else gib(row["total_bytes"])
    return [
        row["engine"],
        row["variant"],
        gib(row["file_bytes"]),
        row["cache"],
        str(row["largest_context"] or "·"),
        str(row["num_ctx"] or "·"),
        needs,
        FITS[row["fits"]],
    ]


def _band(band: Mapping[str, int]) -> str:
    return f"{gib(band['low'])} to {gib(band['high'])}"


def _edges(need: Mapping[str, Any]) -> str:
    return f"{human(need['band_bytes']['low'])} to {human(need['band_bytes']['high'])}"


def _bits(value: float | None) -> str:
    return "·" if value is None else f"{value:.2f}"
