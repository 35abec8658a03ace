"""Settings of a model that makes pictures, and several such models side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qwenops.report.tables import FAINT, facts, grid
from qwenops.units import gib

if TYPE_CHECKING:
    from rich.console import RenderableType

UNKNOWN = "unknown"
_NAMES = {
    "size": "size",
    "steps": "steps",
    "true_cfg_scale": "cfg (true_cfg_scale)",
    "negative_prompt": "negative prompt",
    "flow_shift": "flow shift",
    "sampler": "sampler",
}


def image_settings_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What to set, from where; then the official sizes, the LoRAs, and the sources by their short names."""
    from rich.text import Text

    rows = [[_NAMES[name], _value(one["value"]), one["from"]] for name, one in data["settings"].items()]
    preset = f", preset {data['preset']}" if data["preset"] else ""
    yield Text(f"{data['title']}{preset}: {data['evaluations']} runs of the model for a picture", style="bold")
    yield grid(["setting", "value", "from"], rows, left=3)
    if data["engine_example"]:
        example = data["engine_example"]
        shift = f", flow shift {example['flow_shift']:g}" if example["flow_shift"] else ""
        yield Text(f"stable-diffusion.cpp's own example: cfg {example['cfg_scale']:g}{shift}", style=FAINT)
    yield facts(_around(data))
    yield grid(["from", ""], [[one["id"], one["title"]] for one in data["sources"]], left=2)


def image_compare_view(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Two tables that fit 80 columns: what it is and costs to run, and how well it writes; then the sources."""
    models = data["models"]
    yield grid(
        ["model", "licence", "params", "Q4 GiB", "size", "steps", "guidance"],
        [
            [
                one["title"],
                _value(one["licence"]),
                UNKNOWN if one["parameters_billions"] is None else f"{one['parameters_billions']:g}B",
                UNKNOWN if one["q4_bytes"] is None else gib(one["q4_bytes"]),
                _size(one["native_size"]),
                _value(one["steps"]),
                _guidance(one),
            ]
            for one in models
        ],
        left=2,
    )
    yield "\n"
    yield grid(
        ["text in pictures", "CVTG-2K", "LongText en", "zh", "ChineseWord 1/2/3"],
        [
            [
                one["title"],
                *(_value(one[name]) for name in ("cvtg_2k", "longtext_en", "longtext_zh")),
                UNKNOWN if one["chinese_word"] is None else " / ".join(f"{n:g} %" for n in one["chinese_word"]),
            ]
            for one in models
        ],
    )
    yield "\n"
    yield grid(
        ["row", "from"], [[one["title"], ", ".join(dict.fromkeys(one["from"].values()))] for one in models], left=2
    )
    yield grid(["from", ""], [[one["id"], one["title"]] for one in data["sources"]], left=2)


def _around(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("sizes", "  ".join(f"{s['ratio']} {s['width']}x{s['height']}" for s in data["sizes"]) or UNKNOWN)]
    if data["lightning_sets"]:
        sets = [
            f"{one['steps']} steps: {one['repo']}  {one['file'] or '(file not seen)'}" for one in data["lightning_sets"]
        ]
        rows.append(("Lightning", "\n".join(sets) + "\n(cfg 1, flow shift 3)"))
    if data["prompt_tokens"]:
        rows.append(("prompt", f"at most {data['prompt_tokens']} tokens"))
    return rows


def _lora(one: Mapping[str, Any]) -> str:
    return f"{one['steps']} steps: {one['repo']}  {one['file'] or '(file not seen)'}"


def _value(value: Any) -> str:
    if value is None:
        return UNKNOWN
    if value == " ":
        return "' ' (one space)"
    if value == "":
        return "'' (empty)"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _size(value: Sequence[int] | None) -> str:
    return UNKNOWN if value is None else f"{value[0]}x{value[1]}"


def _guidance(one: Mapping[str, Any]) -> str:
    """True guidance runs the model twice a step; distilled guidance is an input of the model."""
    if one["true_cfg_scale"] is not None:
        return f"cfg {one['true_cfg_scale']:g}"
    if one["guidance_scale"] is not None:
        return f"distilled {one['guidance_scale']:g}"
    return UNKNOWN
