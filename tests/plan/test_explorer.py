"""Every figure of the explorer is one that `need` says, for every kind of device, and its verdict is the planner's."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenops.machine.cards import known_cards
from qwenops.machine.detect import detect
from qwenops.model.read import read_model
from qwenops.model.types import Model
from qwenops.plan.explorer import axes_of, explore, host_room_bytes, value_at
from qwenops.plan.ground import Ground, ground
from qwenops.report.known import verdict
from qwenops.setup.answers import need_result
from tests.support.shapes import TEXT, VISION, text_model, vision_projector, write_text, write_vision

CARDS = ("RTX 3060 12GB", "4GiB", "vulkan:8GiB", "metal:16GiB", "cuda:12GiB,cuda:12GiB", "none")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Headers of a published model, a large quant and a small one, and its projector."""
    place = tmp_path_factory.mktemp("qwen3-vl-4b")
    for quant in ("Q8_0", "Q4_K_M"):
        write_text(place / f"qwen3-vl-4b-{quant}.gguf", TEXT["qwen3-vl-4b"], quant)
    write_vision(place / "mmproj-qwen3-vl-4b-F16.gguf", VISION["qwen3-vl-4b"])
    return place


def grounds(names: tuple[str, ...]) -> list[Ground]:
    return [ground(detect(name), None) for name in names]


def asked(path: Path, gpu: str, model: dict[str, Any], at: tuple[int, int, int]) -> dict[str, Any]:
    """What `qwenops need` answers at a point of the grid."""
    flash, kv = model["caches"][at[0]]
    settings = {"flash_attn": flash, "kv": kv, "image_tokens": model["image_limits"][at[2]]}
    return dict(need_result(path, None, gpu=gpu, rung="closed form", ctx=model["contexts"][at[1]], **settings).data)


def as_shown(path: Path, names: tuple[str, ...], **options: Any) -> dict[str, Any]:
    """An explorer as the page gets it, of one model."""
    places = grounds(names)
    (one,) = explore([read_model(path)], places, **options)
    return {
        "cards": [
            {"devices": [{"free_bytes": d.free_bytes} for d in g.devices], "host_room_bytes": host_room_bytes(g)}
            for g in places
        ],
        "models": [
            {
                "caches": one.axes.caches,
                "contexts": one.axes.contexts,
                "image_limits": one.axes.image_limits,
                "grids": [grid.as_data() for grid in one.grids],
                "grid_of_card": one.grid_of_ground,
            }
        ],
    }


@pytest.fixture(scope="module")
def shown(folder: Path) -> dict[str, Any]:
    """The explorer of one quant on every kind of device."""
    return as_shown(folder / "qwen3-vl-4b-Q8_0.gguf", CARDS)


@pytest.mark.parametrize("card", range(len(CARDS)), ids=CARDS)
def test_every_figure_is_one_that_need_says_to_the_byte(folder: Path, shown: dict[str, Any], card: int) -> None:
    path = folder / "qwen3-vl-4b-Q8_0.gguf"
    (model,) = shown["models"]
    shape = (len(model["caches"]), len(model["contexts"]), len(model["image_limits"]))
    grid = model["grids"][model["grid_of_card"][card]]
    draw = random.Random(card)
    for _ in range(6):
        at = (draw.randrange(shape[0]), draw.randrange(shape[1]), draw.randrange(shape[2]))
        data = asked(path, CARDS[card], model, at)
        by_name = {d["name"]: d for d in data["devices"]}
        for columns, device in zip(grid["devices"], grounds((CARDS[card],))[0].devices, strict=True):
            said = by_name.get(device.name, {})
            for part in ("weights", "kv", "state", "compute", "projector", "encoder", "overhead"):
                assert value_at(columns.get(part), shape, at) == said.get(f"{part}_bytes", 0), (part, at)
        host = {name: value_at(column, shape, at) for name, column in grid["host"].items()}
        assert sum(host.values()) == data["host"]["total_bytes"]
        if len(grid["devices"]) == 1:
            (columns,) = grid["devices"]
            band = (value_at(columns["low"], shape, at), value_at(columns["high"], shape, at))
            assert band == (data["band_bytes"]["low"], data["band_bytes"]["high"])
        assert verdict(shown, model, card, at) == data["fits"], at


def test_cards_share_a_grid_only_where_a_model_needs_the_same(folder: Path) -> None:
    names = tuple(f"{card.name} {size}GB" for card in known_cards() for size, _ in card.sizes_bytes)
    path = folder / "qwen3-vl-4b-Q8_0.gguf"
    shown = as_shown(path, names)
    (model,) = shown["models"]
    assert len(model["grids"]) < 8
    draw = random.Random(1)
    for card in draw.sample(range(len(names)), 12):
        at = (0, draw.randrange(len(model["contexts"])), draw.randrange(len(model["image_limits"])))
        assert verdict(shown, model, card, at) == asked(path, names[card], model, at)["fits"], names[card]


def test_a_projector_without_room_on_the_card_is_a_grid_of_its_own(folder: Path) -> None:
    shown = as_shown(folder / "qwen3-vl-4b-Q4_K_M.gguf", ("12GiB", "cuda:2GiB"))
    first, second = (shown["models"][0]["grids"][n] for n in shown["models"][0]["grid_of_card"])
    assert (first["projector_device"], second["projector_device"]) == ("gpu", "cpu")


def test_what_the_runtime_refuses_is_left_out_with_its_reason() -> None:
    axes = axes_of(text_model(TEXT["qwen3-4b"], "Q4_K_M"), grounds(("12GiB",))[0])
    assert ("off", "q8_0") not in axes.caches
    assert "needs flash attention" in axes.refused["off q8_0"]


@pytest.mark.parametrize(
    ("shape", "limits"), [("qwen3-vl-4b", (1024, 2048, 3072, 4096)), ("qwen3.5-4b", (256, 512, 1024, 2048, 3072, 4096))]
)
def test_image_limits_that_the_runtime_would_contradict_are_not_offered(shape: str, limits: tuple[int, ...]) -> None:
    model = replace(text_model(TEXT[shape], "Q4_K_M"), projector=vision_projector(VISION[shape]))
    assert axes_of(model, grounds(("12GiB",))[0]).image_limits == limits


def test_contexts_end_where_the_model_was_trained(folder: Path) -> None:
    short = text_model(replace(TEXT["qwen3-4b"], context=40960), "Q4_K_M")
    assert axes_of(short, grounds(("12GiB",))[0]).contexts[-2:] == (32768, 40960)


def test_a_context_that_is_asked_for_is_a_step_of_its_own() -> None:
    model: Model = text_model(TEXT["qwen3-4b"], "Q4_K_M")
    (one,) = explore([model], grounds(("12GiB",)), contexts=(22016,))
    assert 22016 in one.axes.contexts
